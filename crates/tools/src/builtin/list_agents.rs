//! `list_agents`: who may be given work.

use async_trait::async_trait;
use domain::{AgentSpec, ToolSpec};
use serde_json::{Value, json};

use super::local_spec;
use crate::{CallContext, Tool, ToolError, ToolReply};

pub(super) const NAME: &str = "list_agents";

pub(super) struct ListAgents;

#[async_trait]
impl Tool for ListAgents {
    fn spec(&self, agent: &AgentSpec) -> Option<ToolSpec> {
        if agent.delegates.is_empty() {
            return None;
        }
        let parameters = json!({ "type": "object", "properties": {}, "additionalProperties": false });
        Some(local_spec(NAME, "Lists the agents that may be given work, and what each is for.", parameters))
    }

    async fn call(&self, context: &CallContext<'_>, _: Value) -> Result<ToolReply, ToolError> {
        let agents = context.workspace.agents().await?;
        // Whoever the workspace knows: an agent may use those of its own file alone.
        let allowed = agents.into_iter().filter(|brief| context.agent.delegates.contains(&brief.name));
        let agents: Vec<Value> =
            allowed.map(|brief| json!({ "name": brief.name, "description": brief.description })).collect();
        Ok(ToolReply::Done(json!({ "agents": agents })))
    }
}
