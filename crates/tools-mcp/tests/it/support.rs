//! A platform's side of a call, and servers under it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::{AgentSpec, ExecutionMode, Namespace, Task, TaskId, TaskStatus, Timestamp, Usage};
use serde_json::{Value, json};
use tools::egress::EgressOptions;
use tools::servers::{MemoryPins, ServerStatus, ToolPins, ToolServers as _, ToolState};
use tools::{
    AgentBrief, ArtifactInfo, CallContext, MemoryScope, NoWorkspace, ToolError, ToolReply, ToolSource, Toolkit,
    Workspace,
};
use tools_mcp::{Launcher, McpTools, Options, ToolsFile};
use uuid::Uuid;

pub(crate) const FAKE: &str = env!("CARGO_BIN_EXE_mcp-fake-server");
pub(crate) const SUPERVISOR: &str = env!("CARGO_BIN_EXE_mcp-supervise");

/// How long anything may take that must happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Keeps what tools leave behind.
#[derive(Default)]
pub(crate) struct Desk {
    pub(crate) files: Mutex<BTreeMap<String, (String, Bytes)>>,
    pub(crate) progress: Mutex<Vec<(String, Option<f64>)>>,
}

#[async_trait]
impl Workspace for Desk {
    async fn recall(&self, scope: MemoryScope, key: &str) -> Result<Option<Value>, ToolError> {
        NoWorkspace.recall(scope, key).await
    }

    async fn remember(&self, scope: MemoryScope, key: &str, value: Option<Value>) -> Result<(), ToolError> {
        NoWorkspace.remember(scope, key, value).await
    }

    async fn remembered(&self, scope: MemoryScope, prefix: &str) -> Result<Vec<String>, ToolError> {
        NoWorkspace.remembered(scope, prefix).await
    }

    async fn write_artifact(&self, name: &str, media_type: &str, bytes: Bytes) -> Result<ArtifactInfo, ToolError> {
        let info = ArtifactInfo { name: name.to_owned(), media_type: media_type.to_owned(), size: bytes.len() as u64 };
        self.files.lock().unwrap().insert(name.to_owned(), (media_type.to_owned(), bytes));
        Ok(info)
    }

    async fn read_artifact(&self, name: &str) -> Result<Option<(ArtifactInfo, Bytes)>, ToolError> {
        NoWorkspace.read_artifact(name).await
    }

    async fn artifacts(&self) -> Result<Vec<ArtifactInfo>, ToolError> {
        NoWorkspace.artifacts().await
    }

    async fn agents(&self) -> Result<Vec<AgentBrief>, ToolError> {
        NoWorkspace.agents().await
    }

    fn progress(&self, _: &str, message: &str, fraction: Option<f64>) {
        self.progress.lock().unwrap().push((message.to_owned(), fraction));
    }
}

/// Servers, and a caller.
pub(crate) struct World {
    pub(crate) tools: Arc<McpTools>,
    pub(crate) pins: Arc<dyn ToolPins>,
    pub(crate) desk: Desk,
}

pub(crate) fn options(pins: &Arc<dyn ToolPins>) -> Options {
    Options {
        pins: Arc::clone(pins),
        launcher: Launcher::new(SUPERVISOR),
        egress: EgressOptions::default(),
        tokens: PathBuf::from("/nonexistent/tokens"),
    }
}

impl World {
    /// Starts the servers of a file.
    pub(crate) async fn new(file: &Value) -> Self {
        Self::with_pins(file, Arc::new(MemoryPins::default())).await
    }

    pub(crate) async fn with_pins(file: &Value, pins: Arc<dyn ToolPins>) -> Self {
        let file = ToolsFile::parse("tools.yml", file.to_string().as_bytes()).expect("a good file");
        let tools = McpTools::start(file, &options(&pins)).await.expect("started");
        Self { tools, pins, desk: Desk::default() }
    }

    /// The fake server in a mode, with more settings.
    pub(crate) async fn fake(mode: &str, settings: Value) -> Self {
        Self::new(&json!({ "servers": { "fake": fake(mode, settings) } })).await
    }

    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Result<Value, ToolError> {
        self.call_in(&Namespace::default(), tool, arguments).await
    }

    pub(crate) async fn call_in(
        &self,
        namespace: &Namespace,
        tool: &str,
        arguments: Value,
    ) -> Result<Value, ToolError> {
        let agent: AgentSpec = serde_json::from_value(json!({ "name": "tester", "tools": [tool] })).unwrap();
        let mut toolkit = Toolkit::default();
        toolkit.add_source(self.tools.clone());
        let toolbox = toolkit.for_agent(&agent);
        let allowed =
            toolbox.check(tool, &arguments).map_err(|refusal| ToolError::new("refused", refusal.to_string()))?;
        let mut task = task(&agent);
        task.namespace = namespace.clone();
        let context = CallContext {
            task: &task,
            agent: &agent,
            call_id: "call-1",
            idempotency_key: "key-1".to_owned(),
            now: now(),
            workspace: &self.desk,
        };
        let called = tokio::time::timeout(DEADLINE, allowed.tool.call(&context, arguments)).await;
        match called.expect("an answer in time")? {
            ToolReply::Done(value) => Ok(value),
            other => panic!("no answer: {other:?}"),
        }
    }

    /// Calls and expects a text.
    pub(crate) async fn text(&self, tool: &str) -> String {
        match self.call(tool, json!({})).await {
            Ok(Value::String(text)) => text,
            other => panic!("no text: {other:?}"),
        }
    }

    /// Calls, and stops waiting soon.
    pub(crate) async fn give_up_on(&self, tool: &str) {
        let call = self.call(tool, json!({}));
        assert!(tokio::time::timeout(Duration::from_millis(100), call).await.is_err(), "{tool} answered");
    }

    pub(crate) async fn status(&self, server: &str) -> ServerStatus {
        self.tools
            .list()
            .await
            .expect("a list")
            .into_iter()
            .find(|status| status.name == server)
            .expect("a declared server")
    }

    pub(crate) async fn state(&self, tool: &str) -> Option<ToolState> {
        let server = tool.split('.').next().unwrap();
        self.status(server).await.tools.into_iter().find(|status| status.name == tool).map(|status| status.state)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.tools.names()
    }

    /// Waits until a tool is in a state.
    pub(crate) async fn until(&self, tool: &str, state: ToolState) {
        let reached = async {
            while self.state(tool).await != Some(state) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, reached).await.unwrap_or_else(|_| panic!("{tool} never became {state:?}"));
    }
}

/// A declaration of the fake server.
pub(crate) fn fake(mode: &str, settings: Value) -> Value {
    let mut server = json!({ "command": FAKE, "args": [mode] });
    if let (Some(server), Value::Object(settings)) = (server.as_object_mut(), settings) {
        server.extend(settings);
    }
    server
}

/// A declaration of the fake server whose tools stand in a file.
pub(crate) fn fake_with_tools(file: &Path, settings: Value) -> Value {
    let mut server = fake("normal", settings);
    server["args"] = json!(["normal", file]);
    server
}

/// A tool as a server lists it.
pub(crate) fn listed(name: &str, description: &str) -> Value {
    json!({ "name": name, "description": description, "inputSchema": { "type": "object" } })
}

pub(crate) fn now() -> Timestamp {
    "2030-01-31T09:00:00Z".parse().unwrap()
}

fn task(agent: &AgentSpec) -> Task {
    Task {
        id: TaskId(Uuid::from_u128(1)),
        namespace: Namespace::default(),
        idempotency_key: None,
        agent: agent.name.clone(),
        agent_version: 1,
        mode: ExecutionMode::Autonomous,
        status: TaskStatus::Running,
        priority: 5,
        attempt: 0,
        epoch: 1,
        worker: None,
        created_at: now(),
        run_at: None,
        expires_at: None,
        deadline: None,
        started_at: Some(now()),
        finished_at: None,
        thread: None,
        user: None,
        parent: None,
        depth: 0,
        metadata: BTreeMap::new(),
        cancel_requested: false,
        failure: None,
        usage: Usage::default(),
        trace: None,
        terms: domain::Terms::default(),
    }
}
