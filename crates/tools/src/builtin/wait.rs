//! `wait`: lets the task sleep without holding a worker.

use async_trait::async_trait;
use chrono::DateTime;
use domain::{AgentSpec, HumanDuration, Timestamp, ToolSpec};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{invalid, later, local_spec, read};
use crate::{CallContext, Tool, ToolError, ToolReply, WaitOn, WaitRequest};

pub(super) const NAME: &str = "wait";

const LONGEST: HumanDuration = HumanDuration::from_secs(30 * 86_400);

pub(super) struct Wait;

#[derive(Deserialize)]
struct Arguments {
    #[serde(rename = "for")]
    length: Option<String>,
    until: Option<String>,
}

#[async_trait]
impl Tool for Wait {
    fn spec(&self, _: &AgentSpec) -> Option<ToolSpec> {
        let parameters = json!({
            "type": "object",
            "properties": {
                "for": { "type": "string", "maxLength": 32, "description": "How long, such as 30s, 10m, 1h30m or 7d." },
                "until": {
                    "type": "string",
                    "maxLength": 64,
                    "description": "A moment with its offset from UTC, such as 2030-01-31T09:00:00+01:00."
                }
            },
            "additionalProperties": false
        });
        let description =
            "Waits for a length of time or until a moment, at most 30 days. Give either `for` or `until`.";
        Some(local_spec(NAME, description, parameters))
    }

    async fn call(&self, context: &CallContext<'_>, arguments: Value) -> Result<ToolReply, ToolError> {
        let arguments: Arguments = read(arguments)?;
        let at = match (arguments.length, arguments.until) {
            (Some(length), None) => end_of(&length, context.now)?,
            (None, Some(until)) => DateTime::parse_from_rfc3339(&until)
                .map_err(|_| invalid("until must be a moment such as 2030-01-31T09:00:00+01:00, with its offset"))?
                .to_utc(),
            _ => return Err(invalid("give either for or until")),
        };
        if at > later(context.now, LONGEST.0) {
            return Err(invalid("the longest wait is 30 days"));
        }
        if at <= context.now {
            return Ok(ToolReply::Done(json!("the moment has already come")));
        }
        Ok(ToolReply::Wait(WaitRequest { on: WaitOn::Timer { at }, expires_at: None, default: None }))
    }
}

fn end_of(length: &str, now: Timestamp) -> Result<Timestamp, ToolError> {
    let length: HumanDuration = length.trim().parse().map_err(|error| invalid(format!("for {error}")))?;
    Ok(later(now, length.0))
}
