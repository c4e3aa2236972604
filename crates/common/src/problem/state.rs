//! What the record's errors mean to a caller: the same in every service.

use std::time::Duration;

use state::StateError;

use super::{Kind, Problem};

impl From<StateError> for Problem {
    fn from(error: StateError) -> Self {
        let text = error.to_string();
        match error {
            StateError::UnknownTask { .. } => Self::new(Kind::UnknownTask).detail(text),
            StateError::Ended { .. } => Self::new(Kind::TaskEnded).detail(text),
            StateError::Conflict { .. } => Self::new(Kind::TaskConflict).detail(text),
            StateError::IdempotencyMismatch { .. } => Self::new(Kind::IdempotencyMismatch).detail(text),
            StateError::VersionMismatch { actual } => Self::new(Kind::VersionMismatch).detail(match actual {
                Some(version) => format!("the value has version {version}"),
                None => "there is no value".to_owned(),
            }),
            StateError::TooLarge(_) => Self::new(Kind::TooLarge).detail(text),
            StateError::Unavailable(_) | StateError::Closed => {
                tracing::warn!(error = %text, "the record is unavailable");
                Self::new(Kind::Unavailable).detail("the record cannot be reached").retry_after(Duration::from_secs(1))
            }
            StateError::LeaseLost { .. } | StateError::StepConflict { .. } | StateError::Corrupt(_) => {
                tracing::error!(error = %text, "the record refused what a caller cannot have caused");
                Self::new(Kind::Internal)
            }
        }
    }
}
