//! `send_message`: work for another agent whose answer nobody waits for.

use async_trait::async_trait;
use domain::{AgentName, AgentSpec, Effect, TaskInput, ToolSpec};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{invalid, json_size, local_spec, read};
use crate::{CallContext, Tool, ToolError, ToolReply};

pub(super) const NAME: &str = "send_message";

const MAX_MESSAGE: usize = 65_536;
const MAX_DATA: usize = 262_144;

pub(super) struct SendMessage;

#[derive(Deserialize)]
struct Arguments {
    agent: AgentName,
    message: String,
    data: Option<Value>,
}

#[async_trait]
impl Tool for SendMessage {
    fn spec(&self, agent: &AgentSpec) -> Option<ToolSpec> {
        if agent.delegates.is_empty() {
            return None;
        }
        let parameters = json!({
            "type": "object",
            "properties": {
                "agent": { "type": "string", "enum": agent.delegates, "description": "Who is to be told." },
                "message": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": MAX_MESSAGE,
                    "description": "What it is told. It sees nothing of this conversation: say all it must know."
                },
                "data": {
                    "type": ["object", "array", "string", "number", "boolean"],
                    "description": "Further data for it, at most 256 KiB as JSON."
                }
            },
            "required": ["agent", "message"],
            "additionalProperties": false
        });
        let description = "Gives a message to another agent, which works on it as a task of its own; nobody waits for the \
             answer. The answer to this call is the new task's id.";
        Some(ToolSpec { effect: Effect::Keyed, ..local_spec(NAME, description, parameters) })
    }

    async fn call(&self, context: &CallContext<'_>, arguments: Value) -> Result<ToolReply, ToolError> {
        let Arguments { agent, message, data } = read(arguments)?;
        if !context.agent.delegates.contains(&agent) {
            return Err(invalid("agent must be one of those that this agent may delegate to"));
        }
        if message.trim().is_empty() || message.len() > MAX_MESSAGE {
            return Err(invalid("message must be text of at most 64 KiB"));
        }
        if data.as_ref().is_some_and(|data| json_size(data) > MAX_DATA) {
            return Err(invalid("data must be at most 256 KiB as JSON"));
        }
        Ok(ToolReply::Send { agent, input: TaskInput { prompt: message, data, images: Vec::new() } })
    }
}
