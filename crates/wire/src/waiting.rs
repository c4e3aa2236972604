//! What a task waits for, in a form that a person or a program can act on.

use chrono::{DateTime, Utc};
use domain::{AgentName, TaskId, Wait, WaitFor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// One thing that a queued or waiting task waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[schema(example = json!({
    "kind": "signal",
    "call_id": "call_1",
    "name": "answer",
    "question": "May I send this to the customer?",
    "options": ["yes", "no"],
    "expires_at": "2026-03-02T12:00:00Z",
    "default": "no"
}))]
pub enum WaitingFor {
    /// A person or a program: answer with `POST /tasks/{task_id}/signal`.
    Signal {
        /// The tool call that waits.
        call_id: String,
        /// The signal's name.
        name: String,
        /// What is asked.
        question: String,
        /// The answers offered; empty for free text.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        options: Vec<String>,
        /// When the wait ends by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<DateTime<Utc>>,
        /// The answer that an expired wait gives.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default: Option<Value>,
    },
    /// A sub-task.
    Child {
        /// The tool call that waits.
        call_id: String,
        /// The sub-task.
        #[schema(value_type = Uuid)]
        task: TaskId,
        /// Its agent.
        #[schema(value_type = String)]
        agent: AgentName,
        /// When the wait ends by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<DateTime<Utc>>,
    },
    /// A moment, which the task itself chose.
    Timer {
        /// The tool call that waits.
        call_id: String,
        /// The moment.
        at: DateTime<Utc>,
    },
    /// The moment before which it may not start, which whoever submitted it chose.
    RunAt {
        /// The moment.
        at: DateTime<Utc>,
    },
    /// The pause after a failed attempt.
    Backoff {
        /// When the next attempt may start.
        until: DateTime<Utc>,
        /// How many attempts have failed.
        attempt: u32,
    },
    /// An earlier task of the same conversation.
    Thread {
        /// The earlier task.
        #[schema(value_type = Uuid)]
        task: TaskId,
    },
    /// A free worker.
    Worker,
}

impl From<&Wait> for WaitingFor {
    fn from(wait: &Wait) -> Self {
        let call_id = wait.call_id.clone();
        match &wait.on {
            WaitFor::Child { task, agent } => {
                Self::Child { call_id, task: *task, agent: agent.clone(), expires_at: wait.expires_at }
            }
            WaitFor::Signal { name, question, options } => Self::Signal {
                call_id,
                name: name.clone(),
                question: question.clone(),
                options: options.clone(),
                expires_at: wait.expires_at,
                default: wait.default.clone(),
            },
            WaitFor::Timer { at } => Self::Timer { call_id, at: *at },
        }
    }
}
