//! What can go wrong in the system of record.

use std::borrow::Cow;

use domain::{TaskId, TaskStatus};
use serde::{Deserialize, Serialize};

/// Why a call to the system of record failed.
///
/// It crosses process borders as JSON, `kind` and `detail`, so names of variants and fields are kept.
#[derive(Debug, Clone, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
pub enum StateError {
    /// The task does not exist in this namespace.
    #[error("task {task} does not exist")]
    UnknownTask {
        /// The task.
        task: TaskId,
    },
    /// The writer no longer holds the task; it must drop its run at once.
    #[error("the lease of task {task} with epoch {epoch} was lost")]
    LeaseLost {
        /// The task.
        task: TaskId,
        /// The epoch that was refused.
        epoch: u32,
    },
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request, which made task {task}")]
    IdempotencyMismatch {
        /// The task of the first request.
        task: TaskId,
    },
    /// The task has ended.
    #[error("task {task} already ended as {status}")]
    Ended {
        /// The task.
        task: TaskId,
        /// How it ended.
        status: TaskStatus,
    },
    /// The task's status does not allow this.
    #[error("task {task} is {status}: {reason}")]
    Conflict {
        /// The task.
        task: TaskId,
        /// Its status.
        status: TaskStatus,
        /// What would be needed.
        reason: Cow<'static, str>,
    },
    /// A step with this number but another content is already in the journal.
    #[error("task {task} already has another step {seq}")]
    StepConflict {
        /// The task.
        task: TaskId,
        /// The step's number.
        seq: u32,
    },
    /// The value's version is not the one that was expected.
    #[error("the value has version {actual:?}")]
    VersionMismatch {
        /// Its version; none when there is no value.
        actual: Option<u64>,
    },
    /// Something stored or to be stored is above a limit, which the message names.
    #[error("{0}")]
    TooLarge(String),
    /// The store cannot be reached or refuses to work; another try may go better.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// What is stored does not fit the domain: a defect, or a foreign hand.
    #[error("the store holds something that is not understood: {0}")]
    Corrupt(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StateError {
    /// The name of what went wrong, as it is written in JSON and in metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::UnknownTask { .. } => "unknown_task",
            Self::LeaseLost { .. } => "lease_lost",
            Self::IdempotencyMismatch { .. } => "idempotency_mismatch",
            Self::Ended { .. } => "ended",
            Self::Conflict { .. } => "conflict",
            Self::StepConflict { .. } => "step_conflict",
            Self::VersionMismatch { .. } => "version_mismatch",
            Self::TooLarge(_) => "too_large",
            Self::Unavailable(_) => "unavailable",
            Self::Corrupt(_) => "corrupt",
            Self::Closed => "closed",
        }
    }

    /// Tells whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Closed)
    }
}
