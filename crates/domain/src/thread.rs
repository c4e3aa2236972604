//! Conversations that several tasks share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Namespace, TaskId, ThreadId, Timestamp};

/// A conversation. Its tasks run one after another, in the order of their submission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Thread {
    /// Its id, chosen by whoever submits its first task.
    pub id: ThreadId,
    /// Who owns it.
    pub namespace: Namespace,
    /// When its first task was submitted.
    pub created_at: Timestamp,
    /// How many messages it has.
    pub messages: u64,
}

/// One message of a thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadMessage {
    /// Position in the thread, from 1, without gaps.
    pub seq: u64,
    /// The task that said it.
    pub task: TaskId,
    /// `user` or `assistant`.
    pub role: String,
    /// The words.
    pub text: String,
    /// When.
    pub at: Timestamp,
}
