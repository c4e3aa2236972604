//! Chat models: a port in no vendor's words, the choice among them, and a scripted one.

mod arguments;
pub mod contract;
mod error;
mod estimate;
mod models;
mod observe;
pub mod scripted;

use std::time::Duration;

use async_trait::async_trait;
use domain::{FinishReason, Message, ToolCall, ToolSpec, Usage};
use serde_json::Value;

pub use arguments::{ArgumentsError, parse_arguments};
pub use error::LlmError;
pub use estimate::{estimate_usage, tokens_of};
pub use models::{ModelInfo, Models, Provider};
pub use observe::observed;

/// How a user message begins that sends an answer back to the model because it was not acceptable.
pub const REPAIR_NOTE: &str = "Your answer was not accepted:";

/// Speaks with a model.
#[async_trait]
pub trait ChatModel: Send + Sync + 'static {
    /// Asks for one answer; `on_delta` gets its text piece by piece as it is spoken.
    ///
    /// Returns only complete answers: one that was cut off, or whose tool calls are not whole and valid JSON objects,
    /// is an error, whatever was streamed before. A call that is dropped stops. An adapter may try again by
    /// itself as long as it has not called `on_delta`.
    async fn chat(&self, request: &ChatRequest, on_delta: &DeltaSink<'_>) -> Result<ChatAnswer, LlmError>;
}

/// Receives the text of an answer piece by piece.
pub type DeltaSink<'a> = dyn Fn(&str) + Send + Sync + 'a;

/// What a model is asked.
#[derive(Debug, Clone)]
pub struct ChatRequest {
    /// The model's name within its provider.
    pub model: String,
    /// The conversation, oldest first; a system message only at the start.
    pub messages: Vec<Message>,
    /// The tools that it may call.
    pub tools: Vec<ToolSpec>,
    /// JSON Schema that the answer must match, for providers that can enforce it.
    pub output_schema: Option<Value>,
    /// Randomness, 0 to 2.
    pub temperature: Option<f64>,
    /// The longest answer in tokens.
    pub max_output_tokens: Option<u32>,
    /// How long the whole answer may take.
    pub timeout: Duration,
    /// How long the model may be silent in the middle of an answer.
    pub idle_timeout: Duration,
}

/// A model's whole answer.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatAnswer {
    /// What it said.
    pub text: String,
    /// The tools that it wants run; ids are unique, arguments are objects.
    pub tool_calls: Vec<ToolCall>,
    /// Why it stopped.
    pub finish: FinishReason,
    /// What the call used.
    pub usage: Usage,
}
