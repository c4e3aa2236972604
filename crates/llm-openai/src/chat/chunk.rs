//! One chunk of a streamed answer, as servers send it.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Unknown fields are ignored: servers add their own. Known fields of a wrong type are not.
#[derive(Debug, Deserialize)]
pub(super) struct Chunk {
    pub(super) choices: Option<Vec<Choice>>,
    /// Read by hand, so that a strange count does not cost an answer.
    pub(super) usage: Option<Value>,
    pub(super) error: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Choice {
    #[serde(default)]
    pub(super) index: u32,
    #[serde(default)]
    pub(super) delta: Option<ChunkDelta>,
    pub(super) finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct ChunkDelta {
    pub(super) content: Option<String>,
    pub(super) refusal: Option<String>,
    /// What the model thinks aloud; not streamed as its answer, but paid for.
    pub(super) reasoning_content: Option<String>,
    /// The same as some servers call it. Read by hand, because others put other things there.
    #[serde(default, deserialize_with = "words")]
    pub(super) reasoning: Option<String>,
    #[serde(default)]
    pub(super) tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct CallDelta {
    pub(super) index: Option<u32>,
    pub(super) id: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) function: Option<FunctionDelta>,
}

#[derive(Debug, Deserialize)]
pub(super) struct FunctionDelta {
    pub(super) name: Option<String>,
    pub(super) arguments: Option<String>,
}

/// The words, or nothing for what is no string.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(words) => Some(words),
        _ => None,
    })
}
