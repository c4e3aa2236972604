//! Why a task, or one attempt at it, failed: in a form that a program can act on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A typed failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// What went wrong.
    pub kind: FailureKind,
    /// The same for a person, with the values needed to look; never a secret, a prompt or a model's words.
    pub message: String,
}

impl Failure {
    /// Makes a failure.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind.as_str(), self.message)
    }
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The model's provider asked us to slow down.
    RateLimited,
    /// The model, or its stream, was silent for too long.
    ModelTimeout,
    /// The model's provider could not be reached or failed (5xx).
    ModelUnavailable,
    /// The provider refused the request for good: credentials, unknown model, content.
    ModelRefused,
    /// The model's answer could not be understood: not JSON, an empty choice, a cut-off tool call.
    ModelAnswerInvalid,
    /// The conversation no longer fits the model.
    ContextTooLong,
    /// The answer still did not match `output_schema` after it was sent back twice.
    OutputInvalid,
    /// A limit of the agent or task was reached; the message names it.
    LimitExceeded,
    /// The same call was repeated without new information.
    LoopDetected,
    /// A `once` tool's call was cut off, and its policy is to fail.
    OutcomeUnknown,
    /// Workers died while they held the task, too often without any progress in between.
    WorkerLost,
    /// The task did not start within its time to live.
    Expired,
    /// The task did not end before its deadline.
    DeadlineExceeded,
    /// The agent, or the version of it that the task started with, does not exist.
    AgentUnknown,
    /// A defect or an outage of the platform itself.
    Internal,
}

impl FailureKind {
    /// Tells whether another attempt may go better.
    pub fn retryable(self) -> bool {
        matches!(
            self,
            Self::RateLimited | Self::ModelTimeout | Self::ModelUnavailable | Self::ModelAnswerInvalid | Self::Internal
        )
    }

    /// The name as it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::ModelTimeout => "model_timeout",
            Self::ModelUnavailable => "model_unavailable",
            Self::ModelRefused => "model_refused",
            Self::ModelAnswerInvalid => "model_answer_invalid",
            Self::ContextTooLong => "context_too_long",
            Self::OutputInvalid => "output_invalid",
            Self::LimitExceeded => "limit_exceeded",
            Self::LoopDetected => "loop_detected",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::WorkerLost => "worker_lost",
            Self::Expired => "expired",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::AgentUnknown => "agent_unknown",
            Self::Internal => "internal",
        }
    }
}
