//! Conversations as the API shows them.

use chrono::{DateTime, Utc};
use domain::{TaskId, Thread, ThreadId, ThreadMessage};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A conversation that several tasks share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "id": "0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c11",
    "created_at": "2026-03-01T12:00:00Z",
    "messages": 4
}))]
pub struct ThreadView {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: ThreadId,
    /// When its first task was submitted.
    pub created_at: DateTime<Utc>,
    /// How many messages it has.
    pub messages: u64,
}

impl From<Thread> for ThreadView {
    fn from(thread: Thread) -> Self {
        Self { id: thread.id, created_at: thread.created_at, messages: thread.messages }
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "seq": 2,
    "task": "0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10",
    "role": "assistant",
    "text": "Three things stand out in this quarter.",
    "at": "2026-03-01T12:00:01Z"
}))]
pub struct MessageView {
    /// Position in the conversation, from 1, without gaps.
    pub seq: u64,
    /// The task that said it.
    #[schema(value_type = Uuid)]
    pub task: TaskId,
    /// `user` or `assistant`.
    pub role: String,
    /// The words.
    pub text: String,
    /// When.
    pub at: DateTime<Utc>,
}

impl From<ThreadMessage> for MessageView {
    fn from(message: ThreadMessage) -> Self {
        Self { seq: message.seq, task: message.task, role: message.role, text: message.text, at: message.at }
    }
}
