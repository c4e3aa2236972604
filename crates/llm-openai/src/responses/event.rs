//! One event of a streamed response, as servers send it.

use serde::Deserialize;
use serde_json::Value;

/// Unknown events and unknown fields are ignored: servers add their own. Known fields of a wrong type are not.
#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
pub(super) enum Event {
    /// A piece of the output begins.
    #[serde(rename = "response.output_item.added")]
    Added { output_index: u32, item: Item },
    /// A piece of the output is whole.
    #[serde(rename = "response.output_item.done")]
    ItemDone { output_index: u32, item: Value },
    /// Words.
    #[serde(rename = "response.output_text.delta")]
    Text { output_index: u32, content_index: u32, delta: String },
    /// All words of a part.
    #[serde(rename = "response.output_text.done")]
    TextDone { output_index: u32, content_index: u32, text: String },
    /// Words that refuse.
    #[serde(rename = "response.refusal.delta")]
    Refusal { output_index: u32, content_index: u32, delta: String },
    /// All words of a part that refuses.
    #[serde(rename = "response.refusal.done")]
    RefusalDone { output_index: u32, content_index: u32, refusal: String },
    /// A piece of a call's arguments.
    #[serde(rename = "response.function_call_arguments.delta")]
    Arguments { output_index: u32, delta: String },
    /// All arguments of a call.
    #[serde(rename = "response.function_call_arguments.done")]
    ArgumentsDone { output_index: u32, arguments: String },
    /// A piece of a summary of what the model thinks; the whole of it comes with its item.
    #[serde(rename = "response.reasoning_summary_text.delta")]
    Summary {},
    /// A piece of what the model thinks; the whole of it comes with its item.
    #[serde(rename = "response.reasoning_text.delta")]
    Thought {},
    /// The answer ended by itself.
    #[serde(rename = "response.completed")]
    Completed { response: Response },
    /// The answer was cut off.
    #[serde(rename = "response.incomplete")]
    Incomplete { response: Response },
    /// The provider failed.
    #[serde(rename = "response.failed")]
    Failed { response: Response },
    /// The provider failed, in other words.
    #[serde(rename = "error")]
    Error { error: Option<Value>, code: Option<Value>, message: Option<Value> },
    /// Whatever else there is.
    #[serde(other)]
    Other,
}

/// The whole response, as far as it matters at its end.
#[derive(Debug, Deserialize)]
pub(super) struct Response {
    pub(super) status: Option<String>,
    pub(super) error: Option<Value>,
    pub(super) incomplete_details: Option<Incomplete>,
    #[serde(default)]
    pub(super) output: Option<Vec<Value>>,
    /// Read by hand, so that a strange count does not cost an answer.
    pub(super) usage: Option<Value>,
}

/// Why an answer was cut off.
#[derive(Debug, Deserialize)]
pub(super) struct Incomplete {
    pub(super) reason: Option<String>,
}

/// A piece of the output.
#[derive(Debug, Deserialize)]
pub(super) struct Item {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) call_id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) arguments: Option<String>,
}

impl Event {
    /// What the provider says about its failure, if this is one.
    pub(super) fn complaint(&self) -> Option<Value> {
        match self {
            Self::Failed { response } => Some(response.error.clone().unwrap_or_default()),
            Self::Error { error: Some(error), .. } if !error.is_null() => Some(error.clone()),
            Self::Error { code, message, .. } => Some(serde_json::json!({ "code": code, "message": message })),
            _ => None,
        }
    }

    /// Tells whether the model has given something. That a piece begins is none: a model may think for minutes then.
    pub(super) fn is_sign_of_the_model(&self) -> bool {
        !matches!(self, Self::Added { .. } | Self::Other)
    }
}
