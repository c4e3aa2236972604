//! `ask`: a question to a person. The task holds no worker while the person thinks.

use async_trait::async_trait;
use domain::{AgentSpec, HumanDuration, ToolSpec};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{invalid, json_size, later, local_spec, read};
use crate::{CallContext, Tool, ToolError, ToolReply, WaitOn, WaitRequest};

pub(super) const NAME: &str = "ask";

/// The name of the signal that answers.
const SIGNAL: &str = "answer";

const DEFAULT_EXPIRY: HumanDuration = HumanDuration::from_secs(7 * 86_400);
const SHORTEST: HumanDuration = HumanDuration::from_secs(1);
const LONGEST: HumanDuration = HumanDuration::from_secs(90 * 86_400);
const MAX_QUESTION: usize = 4_096;

pub(super) struct Ask;

#[derive(Deserialize)]
struct Arguments {
    question: String,
    #[serde(default)]
    options: Vec<String>,
    expires_in: Option<String>,
    default: Option<Value>,
}

#[async_trait]
impl Tool for Ask {
    fn spec(&self, _: &AgentSpec) -> Option<ToolSpec> {
        let parameters = json!({
            "type": "object",
            "properties": {
                "question": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": MAX_QUESTION,
                    "description": "The question, with all that the person must know to answer it."
                },
                "options": {
                    "type": "array",
                    "items": { "type": "string", "minLength": 1, "maxLength": 200 },
                    "maxItems": 20,
                    "uniqueItems": true,
                    "description": "The answers to choose from; none for free text."
                },
                "expires_in": {
                    "type": "string",
                    "maxLength": 32,
                    "description": "How long to wait for the answer, such as 30m, 1h or 7d (the default); at most 90d."
                },
                "default": {
                    "type": ["string", "number", "boolean"],
                    "maxLength": MAX_QUESTION,
                    "description": "The answer to assume when nobody answers in time; one of the options, if there are any."
                }
            },
            "required": ["question"],
            "additionalProperties": false
        });
        let description = "Asks a person a question, or for an approval, and waits for the answer.";
        Some(local_spec(NAME, description, parameters))
    }

    async fn call(&self, context: &CallContext<'_>, arguments: Value) -> Result<ToolReply, ToolError> {
        let arguments: Arguments = read(arguments)?;
        if arguments.question.trim().is_empty() || arguments.question.len() > MAX_QUESTION {
            return Err(invalid("question must be text of at most 4 KiB"));
        }
        if arguments.default.as_ref().is_some_and(|default| json_size(default) > MAX_QUESTION) {
            return Err(invalid("default must be at most 4 KiB"));
        }
        if let Some(default) = &arguments.default
            && !arguments.options.is_empty()
            && !arguments.options.iter().any(|option| Some(option.as_str()) == default.as_str())
        {
            return Err(invalid("default must be one of the options"));
        }
        let expiry = match arguments.expires_in {
            None => DEFAULT_EXPIRY,
            Some(text) => text.trim().parse().map_err(|error| invalid(format!("expires_in {error}")))?,
        };
        if !(SHORTEST..=LONGEST).contains(&expiry) {
            return Err(invalid("expires_in must be between 1s and 90d"));
        }
        Ok(ToolReply::Wait(WaitRequest {
            on: WaitOn::Signal { name: SIGNAL.to_owned(), question: arguments.question, options: arguments.options },
            expires_at: Some(later(context.now, expiry.0)),
            default: arguments.default,
        }))
    }
}
