//! A tool of a server, as agents use it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use domain::{AgentSpec, Effect, ToolPrice, ToolSpec, Usd};
use rmcp::model::{CallToolRequest, CallToolRequestParams, ClientRequest, RequestMetaObject, ServerResult};
use serde_json::Value;
use tools::{CallContext, Tool, ToolError, ToolReply};

use crate::connection::{Connection, Lost};
use crate::definition::Definition;
use crate::handler::Progress;
use crate::instance::Instance;
use crate::result;
use crate::server::Server;

/// The field of a call's `_meta` that holds its idempotency key.
pub const IDEMPOTENCY_KEY: &str = "agentrunner/idempotency-key";

const TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) struct McpTool {
    server: Weak<Server>,
    definition: Definition,
    spec: ToolSpec,
    output: Option<jsonschema::Validator>,
}

impl McpTool {
    pub(crate) fn new(own: Weak<Server>, server: &Server, definition: Definition) -> Self {
        let rules = server.spec.tools.get(&definition.name).cloned().unwrap_or_default();
        let timeout = rules.timeout.or(server.spec.timeout).map_or(TIMEOUT, |timeout| timeout.0);
        let name = format!("{}.{}", server.name, definition.name);
        let spec = ToolSpec {
            // What a server claims of its tools decides nothing.
            effect: rules.effect.unwrap_or(Effect::Once),
            on_unknown: rules.on_unknown.unwrap_or_default(),
            approval: rules.approval.unwrap_or_default(),
            price: ToolPrice { usd: rules.cost_usd.map(Usd::from_dollars).unwrap_or_default(), ..ToolPrice::default() },
            ..ToolSpec::new(name, definition.description(), definition.parameters(), timeout)
        };
        let output = definition.output_schema().and_then(|schema| tools::schema::compile(&schema).ok());
        Self { server: own, definition, spec, output }
    }
}

#[async_trait]
impl Tool for McpTool {
    fn spec(&self, _: &AgentSpec) -> Option<ToolSpec> {
        Some(self.spec.clone())
    }

    async fn call(&self, context: &CallContext<'_>, arguments: Value) -> Result<ToolReply, ToolError> {
        let server = upgrade(&self.server)?;
        let (instance, connection) = reach(&server, context).await?;
        let _busy = Busy::new(&instance);
        // Another instance of the server may be honest while this one is not.
        if connection.listing().get(&self.definition.name).map(|now| &now.digest) != Some(&self.definition.digest) {
            let message = "the server has changed this tool since it was accepted; a person has to approve it";
            return Err(ToolError::new("tool_changed", message));
        }
        let mut params = CallToolRequestParams::new(self.definition.name.clone());
        params.arguments = arguments.as_object().cloned();
        let mut meta = RequestMetaObject::new();
        meta.insert(IDEMPOTENCY_KEY.to_owned(), context.idempotency_key.clone().into());
        params.meta = Some(meta);
        let mut request = CallToolRequest::default();
        request.params = params;
        let tell = |progress: Progress| {
            context.workspace.progress(context.call_id, &progress.message, progress.fraction);
        };
        let answer = connection.ask(ClientRequest::CallToolRequest(request), &tell);
        match answer.await.map_err(|lost| failed(lost, &self.spec))? {
            ServerResult::CallToolResult(answer) => {
                result::of_call(answer, self.output.as_ref(), context, server.max_output).await.map(ToolReply::Done)
            }
            ServerResult::InputRequiredResult(_) => {
                Err(ToolError::new("denied", "the server asks for input of a person, which is not granted"))
            }
            _ => Err(ToolError::new("invalid_answer", "the server answered with something else than a result")),
        }
    }
}

pub(crate) fn upgrade(server: &Weak<Server>) -> Result<Arc<Server>, ToolError> {
    server.upgrade().ok_or_else(|| ToolError::new("unavailable", "the platform is stopping"))
}

/// Finds a live connection for the task's namespace.
pub(crate) async fn reach(
    server: &Server,
    context: &CallContext<'_>,
) -> Result<(Arc<Instance>, Arc<Connection>), ToolError> {
    let instance = server.instance(context.namespace())?;
    let connection = instance.connect().await.map_err(|reason| {
        ToolError::new("unavailable", format!("the server {} is unavailable: {reason}", server.name))
    })?;
    Ok((instance, connection))
}

/// Says what became of a call that got no result.
pub(crate) fn failed(lost: Lost, spec: &ToolSpec) -> ToolError {
    match lost {
        Lost::Error { code, message } => ToolError::new("server_error", format!("{message} (code {code})")),
        Lost::Gone(reason) if spec.effect == Effect::None => {
            ToolError::new("connection_lost", format!("no answer: {reason}")).unknown()
        }
        Lost::Gone(reason) => ToolError::new(
            "connection_lost",
            format!("no answer, and whether the call happened is not known: {reason}"),
        )
        .unknown(),
    }
}

/// Counts a call as under way, so that its instance is not taken for idle.
pub(crate) struct Busy<'a>(&'a AtomicU32);

impl<'a> Busy<'a> {
    pub(crate) fn new(instance: &'a Instance) -> Self {
        instance.calls.fetch_add(1, Ordering::Relaxed);
        Self(&instance.calls)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
