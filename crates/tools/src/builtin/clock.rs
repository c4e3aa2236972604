//! `now`: a model does not know the time.

use async_trait::async_trait;
use chrono::SecondsFormat;
use chrono_tz::Tz;
use domain::{AgentSpec, ToolSpec};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{invalid, local_spec, read};
use crate::{CallContext, Tool, ToolError, ToolReply};

pub(super) const NAME: &str = "now";

pub(super) struct Now;

#[derive(Deserialize)]
struct Arguments {
    timezone: Option<String>,
}

#[async_trait]
impl Tool for Now {
    fn spec(&self, _: &AgentSpec) -> Option<ToolSpec> {
        let parameters = json!({
            "type": "object",
            "properties": {
                "timezone": {
                    "type": "string",
                    "maxLength": 64,
                    "description": "An IANA time zone such as Europe/Berlin; UTC when left out."
                }
            },
            "additionalProperties": false
        });
        Some(local_spec(NAME, "Tells the current date, time and day of the week.", parameters))
    }

    async fn call(&self, context: &CallContext<'_>, arguments: Value) -> Result<ToolReply, ToolError> {
        let arguments: Arguments = read(arguments)?;
        let zone: Tz = match arguments.timezone {
            None => Tz::UTC,
            Some(name) => {
                name.parse().map_err(|_| invalid("timezone must be an IANA time zone such as Europe/Berlin"))?
            }
        };
        let local = context.now.with_timezone(&zone);
        Ok(ToolReply::Done(json!({
            "time": local.to_rfc3339_opts(SecondsFormat::Secs, true),
            "timezone": zone.name(),
            "weekday": local.format("%A").to_string(),
            "unix": context.now.timestamp(),
        })))
    }
}
