//! A server's resources, as two tools: one lists them, one reads one. Links are never followed: the server reads, not we.

use std::sync::Weak;
use std::time::Duration;

use async_trait::async_trait;
use domain::{AgentSpec, ToolSpec};
use rmcp::model::{
    ClientRequest, ListResourcesRequest, PaginatedRequestParams, ReadResourceRequest, ReadResourceRequestParams,
    ServerResult,
};
use serde_json::{Value, json};
use tools::{CallContext, Tool, ToolError, ToolReply};

use crate::server::Server;
use crate::tool::{Busy, failed, reach, upgrade};
use crate::{result, text};

const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest URI that is asked for.
const MAX_URI: usize = 4_096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    List,
    Read,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::List => "list_resources",
            Self::Read => "read_resource",
        }
    }
}

pub(crate) struct ResourceTool {
    server: Weak<Server>,
    pub(crate) kind: Kind,
    spec: ToolSpec,
}

impl ResourceTool {
    pub(crate) fn both(own: &Weak<Server>, server: &Server) -> [Self; 2] {
        let timeout = server.spec.timeout.map_or(TIMEOUT, |timeout| timeout.0);
        [Kind::List, Kind::Read].map(|kind| {
            let (description, parameters) = match kind {
                Kind::List => (
                    format!("Lists the resources of {}: what `read_resource` can read.", server.name),
                    json!({
                        "type": "object",
                        "properties": {
                            "cursor": { "type": "string", "maxLength": 4096, "description": "Goes on where the last list ended." }
                        },
                        "additionalProperties": false
                    }),
                ),
                Kind::Read => (
                    format!("Reads a resource of {} by its URI.", server.name),
                    json!({
                        "type": "object",
                        "properties": { "uri": { "type": "string", "minLength": 1, "maxLength": MAX_URI } },
                        "required": ["uri"],
                        "additionalProperties": false
                    }),
                ),
            };
            let spec = ToolSpec::new(format!("{}.{}", server.name, kind.name()), description, parameters, timeout);
            Self { server: own.clone(), kind, spec }
        })
    }
}

#[async_trait]
impl Tool for ResourceTool {
    fn spec(&self, _: &AgentSpec) -> Option<ToolSpec> {
        Some(self.spec.clone())
    }

    async fn call(&self, context: &CallContext<'_>, arguments: Value) -> Result<ToolReply, ToolError> {
        let server = upgrade(&self.server)?;
        let (instance, connection) = reach(&server, context).await?;
        let _busy = Busy::new(&instance);
        if !connection.has_resources() {
            return Err(ToolError::new("not_supported", format!("the server {} has no resources", server.name)));
        }
        let argument = |name: &str| arguments.get(name).and_then(Value::as_str).map(str::to_owned);
        let request = match self.kind {
            Kind::List => {
                let params = argument("cursor");
                let params = params.map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
                ClientRequest::ListResourcesRequest(ListResourcesRequest { params, ..ListResourcesRequest::default() })
            }
            Kind::Read => {
                let uri = argument("uri").unwrap_or_default();
                ClientRequest::ReadResourceRequest(ReadResourceRequest::new(ReadResourceRequestParams::new(uri)))
            }
        };
        match connection.ask(request, &|_| {}).await.map_err(|lost| failed(lost, &self.spec))? {
            ServerResult::ListResourcesResult(page) => {
                let resources: Vec<Value> = page
                    .resources
                    .iter()
                    .take(500)
                    .map(|resource| {
                        json!({
                            "uri": text::line(&resource.uri, MAX_URI),
                            "name": text::line(&resource.name, 200),
                            "description": resource.description.as_deref().map(|words| text::line(words, 500)),
                            "mime_type": resource.mime_type.as_deref().map(|kind| text::line(kind, 100)),
                        })
                    })
                    .collect();
                let listed = json!({ "resources": resources, "cursor": page.next_cursor });
                Ok(ToolReply::Done(result::capped(listed, server.max_output)))
            }
            ServerResult::ReadResourceResult(read) => {
                result::of_resource(read.contents, context, server.max_output).await.map(ToolReply::Done)
            }
            _ => Err(ToolError::new("invalid_answer", "the server answered with something else than a resource")),
        }
    }
}
