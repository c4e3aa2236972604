//! The events of a streamed answer, as servers send them.
//!
//! Unknown fields, events and blocks are ignored, because the protocol says that new ones may come. Known fields of a wrong
//! type are not.

use std::borrow::Cow;

use llm_http::Flaw;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// What every event, block and delta has.
#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
}

/// Tells of what kind a piece of JSON is.
pub(crate) fn kind(json: &str) -> Result<Cow<'_, str>, Flaw> {
    read::<Kind<'_>>(json).map(|kind| kind.r#type)
}

/// Reads a piece of JSON. The parser's own message would repeat what the model said.
pub(crate) fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, Flaw> {
    serde_json::from_str(json).map_err(|_| Flaw::NotAChunk)
}

#[derive(Deserialize)]
pub(crate) struct MessageStart {
    pub(crate) message: Begun,
}

#[derive(Deserialize)]
pub(crate) struct Begun {
    /// Read by hand, so that a strange count does not cost an answer.
    pub(crate) usage: Option<Value>,
}

#[derive(Deserialize)]
pub(crate) struct BlockStart<'a> {
    pub(crate) index: u32,
    #[serde(borrow)]
    pub(crate) content_block: &'a RawValue,
}

#[derive(Deserialize)]
pub(crate) struct BlockDelta {
    pub(crate) index: u32,
    pub(crate) delta: Delta,
}

#[derive(Deserialize)]
pub(crate) struct BlockStop {
    pub(crate) index: u32,
}

#[derive(Deserialize)]
pub(crate) struct TextBlock {
    pub(crate) text: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct ToolBlock<'a> {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(borrow)]
    pub(crate) input: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
pub(crate) enum Delta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "signature_delta")]
    Signature { signature: String },
    #[serde(other)]
    Unknown,
}

#[derive(Deserialize)]
pub(crate) struct MessageDelta {
    pub(crate) delta: EndDelta,
    pub(crate) usage: Option<Value>,
}

#[derive(Deserialize)]
pub(crate) struct EndDelta {
    pub(crate) stop_reason: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct ErrorEvent {
    pub(crate) error: Value,
}
