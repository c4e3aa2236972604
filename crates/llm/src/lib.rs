//! Chat models: a port in no vendor's words, the choice among them, and a scripted one.

mod arguments;
pub mod contract;
mod error;
mod estimate;
mod models;
mod observe;
mod price;
pub mod scripted;

use std::time::Duration;

use async_trait::async_trait;
use domain::agent::Effort;
use domain::{FinishReason, Message, Reasoning, ToolCall, ToolSpec, Usage};
use serde_json::Value;

pub use arguments::{ArgumentsError, parse_arguments};
pub use error::LlmError;
pub use estimate::{estimate_usage, most_tokens, tokens_of};
pub use models::{
    BreakerSettings, BreakerState, Candidate, Catalogue, LastError, ModelInfo, ModelStatus, ModelTerms, Models,
    NodeHealth, NodeLimits, NodeSettings, Provider, Route, Target,
};
pub use observe::observed;
pub use price::Price;

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

    /// Makes a vector of each text. A provider without embeddings refuses.
    async fn embed(&self, request: &EmbedRequest) -> Result<Embeddings, LlmError> {
        Err(LlmError::Refused { model: request.model.clone(), reason: "its provider makes no embeddings".to_owned() })
    }

    /// Lists the models that the provider has now. One that cannot tell lists none.
    async fn list(&self) -> Result<Vec<String>, LlmError> {
        Ok(Vec::new())
    }

    /// Fetches a model, telling how far it is. A provider whose models are always there refuses.
    async fn pull(&self, model: &str, _on_progress: &PullSink<'_>) -> Result<(), LlmError> {
        Err(LlmError::Refused { model: model.to_owned(), reason: "its provider has nothing to fetch".to_owned() })
    }
}

/// Hears how far a fetch is.
pub type PullSink<'a> = dyn Fn(PullProgress) + Send + Sync + 'a;

/// How far a fetch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullProgress {
    /// What is being done.
    pub status: String,
    /// Bytes that are here.
    pub done: u64,
    /// Bytes in all, when that is known.
    pub total: Option<u64>,
}

/// Texts to be made vectors of.
#[derive(Debug, Clone)]
pub struct EmbedRequest {
    /// The model's name within its provider.
    pub model: String,
    /// The texts.
    pub texts: Vec<String>,
    /// How long the whole may take.
    pub timeout: Duration,
}

/// Vectors of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// One a text, in their order, all of one length; every number is finite.
    pub vectors: Vec<Vec<f32>>,
    /// What the call used.
    pub usage: Usage,
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
    /// How much it may think before it answers, for models that do.
    pub effort: Option<Effort>,
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
    /// What it thought, as far as its provider shows it.
    pub reasoning: Vec<Reasoning>,
    /// Why it stopped.
    pub finish: FinishReason,
    /// What the call used.
    pub usage: Usage,
}
