//! `delegate`: gives a piece of work to another agent and waits for its answer.

use async_trait::async_trait;
use domain::{AgentName, AgentSpec, TaskInput, ToolSpec};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{invalid, json_size, local_spec, read};
use crate::{CallContext, Tool, ToolError, ToolReply, WaitOn, WaitRequest};

pub(super) const NAME: &str = "delegate";

const MAX_PROMPT: usize = 65_536;
const MAX_DATA: usize = 262_144;

pub(super) struct Delegate;

#[derive(Deserialize)]
struct Arguments {
    agent: AgentName,
    prompt: String,
    data: Option<Value>,
}

#[async_trait]
impl Tool for Delegate {
    fn spec(&self, agent: &AgentSpec) -> Option<ToolSpec> {
        if agent.delegates.is_empty() {
            return None;
        }
        let parameters = json!({
            "type": "object",
            "properties": {
                "agent": { "type": "string", "enum": agent.delegates, "description": "Who is to do the work." },
                "prompt": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": MAX_PROMPT,
                    "description": "What is to be done. The other agent sees nothing of this conversation: say all it must know."
                },
                "data": {
                    "type": ["object", "array", "string", "number", "boolean"],
                    "description": "Further data for the work, at most 256 KiB as JSON."
                }
            },
            "required": ["agent", "prompt"],
            "additionalProperties": false
        });
        let description = "Gives a piece of work to another agent and waits for its answer.";
        Some(local_spec(NAME, description, parameters))
    }

    async fn call(&self, context: &CallContext<'_>, arguments: Value) -> Result<ToolReply, ToolError> {
        let Arguments { agent, prompt, data } = read(arguments)?;
        if !context.agent.delegates.contains(&agent) {
            return Err(invalid("agent must be one of those that this agent may delegate to"));
        }
        if prompt.trim().is_empty() || prompt.len() > MAX_PROMPT {
            return Err(invalid("prompt must be text of at most 64 KiB"));
        }
        if data.as_ref().is_some_and(|data| json_size(data) > MAX_DATA) {
            return Err(invalid("data must be at most 256 KiB as JSON"));
        }
        let on = WaitOn::Delegate { agent, input: TaskInput { prompt, data, images: Vec::new() } };
        Ok(ToolReply::Wait(WaitRequest { on, expires_at: None, default: None }))
    }
}
