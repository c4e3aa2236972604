//! A call outside of any task, for whoever tries a server out.

use std::collections::BTreeMap;

use domain::{
    AgentName, AgentSpec, Clock as _, ExecutionMode, Ids as _, Namespace, SystemClock, SystemIds, Task, TaskId,
    TaskStatus, Terms, Usage,
};
use serde_json::{Value, json};
use tools::{CallContext, NoWorkspace, ToolError, ToolReply, Toolkit};

use crate::source::McpTools;

pub(super) async fn call(tools: &McpTools, name: &str, arguments: Value) -> Result<Value, ToolError> {
    let broken = |what: &str| ToolError::new("internal", what.to_owned());
    let agent = json!({ "name": "trial", "tools": [name] });
    let agent: AgentSpec = serde_json::from_value(agent).map_err(|_| broken("this is no tool's name"))?;
    let mut toolkit = Toolkit::default();
    if let Some(tool) = tools::ToolSource::find(tools, name) {
        toolkit.add(name, tool);
    }
    let toolbox = toolkit.for_agent(&agent);
    let checked = toolbox.check(name, &arguments);
    let allowed = checked.map_err(|refusal| ToolError::new("refused", refusal.to_string()))?;
    let (clock, ids) = (SystemClock::default(), SystemIds);
    let now = clock.now();
    let task = Task {
        id: TaskId(ids.uuid()),
        namespace: Namespace::default(),
        idempotency_key: None,
        agent: AgentName::new("trial").map_err(|_| broken("no name"))?,
        agent_version: 1,
        mode: ExecutionMode::Autonomous,
        status: TaskStatus::Running,
        priority: 5,
        attempt: 0,
        epoch: 1,
        worker: None,
        created_at: now,
        run_at: None,
        expires_at: None,
        deadline: None,
        started_at: Some(now),
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
        terms: Terms::default(),
    };
    let context = CallContext {
        task: &task,
        agent: &agent,
        call_id: "trial",
        idempotency_key: format!("{}/trial", task.id),
        now,
        workspace: &NoWorkspace,
    };
    match tokio::time::timeout(allowed.spec.timeout, allowed.tool.call(&context, arguments)).await {
        Ok(Ok(ToolReply::Done(value))) => Ok(value),
        Ok(Ok(_)) => Err(broken("the tool wants to wait")),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(ToolError::new("timeout", "no answer in time")),
    }
}
