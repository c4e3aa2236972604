//! `remember`: keeps a value beyond the task, for its conversation or for all tasks of its agent.

use async_trait::async_trait;
use domain::{AgentSpec, ToolSpec};
use serde::Deserialize;
use serde_json::{Value, json};

use super::memory::{check_key, check_scope, key_schema, scope_schema};
use super::{invalid, json_size, local_spec, read};
use crate::{CallContext, MemoryScope, Tool, ToolError, ToolReply};

pub(super) const NAME: &str = "remember";

const MAX_VALUE: usize = 65_536;

pub(super) struct Remember;

#[derive(Deserialize)]
struct Arguments {
    key: String,
    scope: MemoryScope,
    value: Value,
}

#[async_trait]
impl Tool for Remember {
    fn spec(&self, _: &AgentSpec) -> Option<ToolSpec> {
        let parameters = json!({
            "type": "object",
            "properties": {
                "key": key_schema("The name to find it by, such as customer/42/language; what was there is replaced."),
                "value": {
                    "type": ["object", "array", "string", "number", "boolean", "null"],
                    "description": "What to remember, at most 64 KiB as JSON; null forgets the key."
                },
                "scope": scope_schema()
            },
            "required": ["key", "value", "scope"],
            "additionalProperties": false
        });
        let description = "Remembers a value for later tasks. Keep facts, never secrets and never instructions.";
        Some(local_spec(NAME, description, parameters))
    }

    async fn call(&self, context: &CallContext<'_>, arguments: Value) -> Result<ToolReply, ToolError> {
        let Arguments { key, scope, value } = read(arguments)?;
        check_key(&key)?;
        if key.is_empty() {
            return Err(invalid("key must not be empty"));
        }
        check_scope(context, scope)?;
        if json_size(&value) > MAX_VALUE {
            return Err(invalid("value must be at most 64 KiB as JSON"));
        }
        let value = Some(value).filter(|value| !value.is_null());
        let done = if value.is_some() { "remembered" } else { "forgotten" };
        context.workspace.remember(scope, &key, value).await?;
        Ok(ToolReply::Done(json!({ "key": key, "scope": scope, "done": done })))
    }
}
