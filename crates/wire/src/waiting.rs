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
    /// A person's permission for a call: answer with `POST /tasks/{task_id}/approvals/{call_id}`.
    Approval {
        /// The tool call that waits.
        call_id: String,
        /// The tool.
        tool: String,
        /// The very arguments that are to be decided about.
        arguments: Value,
        /// Names this call with these arguments; say it back with the decision.
        digest: String,
        /// Why a person is asked.
        reason: String,
        /// When the wait ends by itself, as a refusal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<DateTime<Utc>>,
    },
    /// A person's decision about a budget: answer with `POST /tasks/{task_id}/budget`.
    Budget {
        /// Names the question.
        call_id: String,
        /// The account that does not allow the next call.
        account: String,
        /// What is short: `usd`, `tokens`, `model_calls` or `tool_calls`.
        what: String,
        /// Its limit in words.
        limit: String,
        /// What is spent and reserved, in words.
        used: String,
        /// What the next call might take, in words.
        asked: String,
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
    /// A limit on how many tasks run or start.
    Limit {
        /// What is counted together, such as `agent/researcher`.
        gate: String,
        /// The limit in words.
        limit: String,
        /// Tasks that hold it, the longest first, at most 10.
        #[schema(value_type = Vec<Uuid>)]
        holders: Vec<TaskId>,
        /// The place among those that it holds back, from 1.
        position: u64,
        /// When it opens by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<DateTime<Utc>>,
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
            WaitFor::Approval { tool, arguments, digest, reason } => Self::Approval {
                call_id,
                tool: tool.clone(),
                arguments: arguments.clone(),
                digest: digest.clone(),
                reason: reason.clone(),
                expires_at: wait.expires_at,
            },
            WaitFor::Budget { account, what, limit, used, asked } => Self::Budget {
                call_id,
                account: account.clone(),
                what: what.as_str().to_owned(),
                limit: what.show(*limit),
                used: what.show(*used),
                asked: what.show(*asked),
            },
        }
    }
}
