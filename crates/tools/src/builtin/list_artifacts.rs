//! `list_artifacts`: the files that are kept with the task.

use async_trait::async_trait;
use domain::{AgentSpec, ToolSpec};
use serde_json::{Value, json};

use super::artifact::told;
use super::local_spec;
use crate::{CallContext, Tool, ToolError, ToolReply};

pub(super) const NAME: &str = "list_artifacts";

pub(super) struct ListArtifacts;

#[async_trait]
impl Tool for ListArtifacts {
    fn spec(&self, _: &AgentSpec) -> Option<ToolSpec> {
        let parameters = json!({ "type": "object", "properties": {}, "additionalProperties": false });
        Some(local_spec(NAME, "Lists the files that are kept with the task, by name.", parameters))
    }

    async fn call(&self, context: &CallContext<'_>, _: Value) -> Result<ToolReply, ToolError> {
        let artifacts: Vec<Value> = context.workspace.artifacts().await?.iter().map(told).collect();
        Ok(ToolReply::Done(json!({ "artifacts": artifacts })))
    }
}
