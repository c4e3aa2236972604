//! `echo`: says back what it is told, for demos and benchmarks.

use async_trait::async_trait;
use domain::{AgentSpec, ToolSpec};
use serde_json::{Value, json};

use super::{invalid, local_spec};
use crate::{CallContext, Tool, ToolError, ToolReply};

pub(super) const NAME: &str = "echo";

pub(super) struct Echo;

#[async_trait]
impl Tool for Echo {
    fn spec(&self, _: &AgentSpec) -> Option<ToolSpec> {
        let parameters = json!({
            "type": "object",
            "properties": { "text": { "type": "string", "maxLength": 65_536, "description": "What to say back." } },
            "required": ["text"],
            "additionalProperties": false
        });
        Some(local_spec(NAME, "Answers with the text that it is given.", parameters))
    }

    async fn call(&self, _: &CallContext<'_>, mut arguments: Value) -> Result<ToolReply, ToolError> {
        let text = arguments.get_mut("text").map(Value::take).filter(Value::is_string);
        text.map(ToolReply::Done).ok_or_else(|| invalid("text must be a string"))
    }
}
