//! What can go wrong with a model.

use std::time::Duration;

use domain::FailureKind;

/// Why a model gave no answer. Messages carry no prompt, no answer and no key.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LlmError {
    /// The provider asked us to slow down.
    #[error("{model} is rate limited")]
    RateLimited {
        /// Who.
        model: String,
        /// How long it asked us to wait, within our own bounds.
        retry_after: Option<Duration>,
    },
    /// It was not asked: all places that we have at it are taken, its rate is used up, or it wants to be left alone for now.
    #[error("{model} has no place free")]
    Busy {
        /// Who.
        model: String,
        /// When a place may be free.
        retry_after: Option<Duration>,
    },
    /// No answer, or no further piece of one, in time.
    #[error("{model} was silent for {millis} ms")]
    Timeout {
        /// Who.
        model: String,
        /// How long.
        millis: u64,
    },
    /// The provider could not be reached or failed.
    #[error("{model} is unavailable: {reason}")]
    Unavailable {
        /// Who.
        model: String,
        /// What happened.
        reason: String,
        /// How long it asked us to wait, within our own bounds.
        retry_after: Option<Duration>,
    },
    /// The provider refused for good: credentials, unknown model, content.
    #[error("{model} refused the request: {reason}")]
    Refused {
        /// Who.
        model: String,
        /// What it said, shortened.
        reason: String,
    },
    /// The answer is not understood, or was cut off.
    #[error("{model} gave an answer that is not understood: {reason}")]
    Invalid {
        /// Who.
        model: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The conversation does not fit the model.
    #[error("the conversation is too long for {model}")]
    ContextTooLong {
        /// Who.
        model: String,
    },
    /// No such model is configured.
    #[error("model {model} is not available: {reason}")]
    Unknown {
        /// Who.
        model: String,
        /// What to do about it.
        reason: String,
    },
}

impl LlmError {
    /// The failure that a task ends with when nothing helps.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::RateLimited { .. } | Self::Busy { .. } => FailureKind::RateLimited,
            Self::Timeout { .. } => FailureKind::ModelTimeout,
            Self::Unavailable { .. } => FailureKind::ModelUnavailable,
            Self::Refused { .. } | Self::Unknown { .. } => FailureKind::ModelRefused,
            Self::Invalid { .. } => FailureKind::ModelAnswerInvalid,
            Self::ContextTooLong { .. } => FailureKind::ContextTooLong,
        }
    }

    /// How long the provider asked us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. }
            | Self::Busy { retry_after, .. }
            | Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
