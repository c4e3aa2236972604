//! The conversation with a model, in no vendor's words.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One message of a conversation with a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Message {
    /// What the operator tells the model.
    System {
        /// The instructions.
        text: String,
    },
    /// What a person, or the program on its behalf, says.
    User {
        /// The words.
        text: String,
    },
    /// What the model said before.
    Assistant {
        /// The words; empty when it only called tools.
        text: String,
        /// The tools it asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ToolCall>,
    },
    /// What a tool answered.
    Tool {
        /// The call that this answers.
        call_id: String,
        /// The answer as text (JSON when the tool gave JSON).
        text: String,
    },
}

/// A model's wish to run a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolCall {
    /// Names the call within its task; the model's own id, which is unique in one answer.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments; always an object.
    pub arguments: Value,
}

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// It had said all.
    Stop,
    /// It wants its tools to be run.
    ToolCalls,
    /// It reached its output limit; what it said is cut off.
    Length,
    /// Its provider cut it off.
    ContentFilter,
}

/// What model calls used. Sums saturate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// True when the provider gave no count and ours is an estimate, rounded up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
}

impl Usage {
    /// Tokens read and written.
    pub fn total(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}

impl std::ops::AddAssign for Usage {
    #[expect(clippy::suspicious_op_assign_impl, reason = "a sum is an estimate as soon as one part of it is")]
    fn add_assign(&mut self, other: Self) {
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.estimated |= other.estimated;
    }
}
