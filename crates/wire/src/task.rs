//! A task as the API shows it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::{AgentName, ExecutionMode, Failure, Task, TaskId, TaskStatus, ThreadId, Usage};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{ExecutionModeSchema, FailureSchema, TaskStatusSchema, UsageSchema, WaitingFor};

/// A task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "id": "0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10",
    "agent": "researcher",
    "agent_version": 3,
    "execution_mode": "autonomous",
    "status": "succeeded",
    "cancelling": false,
    "output": "Three things stand out in this quarter.",
    "attempt": 0,
    "priority": 5,
    "created_at": "2026-03-01T12:00:00Z",
    "started_at": "2026-03-01T12:00:00Z",
    "finished_at": "2026-03-01T12:00:01Z",
    "depth": 0,
    "metadata": { "team": "finance" },
    "usage": { "input_tokens": 812, "output_tokens": 96, "cached_input_tokens": 512, "cost_usd": 0.0021 },
    "links": {
        "self": "/tasks/0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10",
        "journal": "/tasks/0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10/journal",
        "events": "/tasks/0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10/events"
    }
}))]
pub struct TaskView {
    /// Its id; ids sort by creation.
    #[schema(value_type = Uuid)]
    pub id: TaskId,
    /// Its agent.
    #[schema(value_type = String)]
    pub agent: AgentName,
    /// The version of the agent that it runs with, to its end.
    pub agent_version: u32,
    /// The pool that runs it.
    #[schema(value_type = ExecutionModeSchema)]
    pub execution_mode: ExecutionMode,
    /// Where it is in its life.
    #[schema(value_type = TaskStatusSchema)]
    pub status: TaskStatus,
    /// True from the moment somebody asked it to stop until it has.
    pub cancelling: bool,
    /// The answer of a succeeded task: a text, or JSON when the agent has an `output_schema`. Not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<FailureSchema>)]
    pub failure: Option<Failure>,
    /// What a queued or waiting task waits for. Not in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting_for: Vec<WaitingFor>,
    /// How many attempts have failed.
    pub attempt: u32,
    /// 0 (last) to 9 (first).
    pub priority: u8,
    /// When it was submitted.
    pub created_at: DateTime<Utc>,
    /// Not before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<DateTime<Utc>>,
    /// It fails when no worker has started it by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// It fails when it has not ended by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<DateTime<Utc>>,
    /// When a worker first claimed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime<Utc>>,
    /// The conversation that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub thread_id: Option<ThreadId>,
    /// For whom it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What limits per key count it under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_key: Option<String>,
    /// The task that delegated it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentView>,
    /// How many delegations lie above it.
    pub depth: u32,
    /// Labels that its owner gave it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// The key under which it was submitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// What it used; complete when it has ended.
    #[schema(value_type = UsageSchema)]
    pub usage: Usage,
    /// Where more about it is.
    pub links: TaskLinks,
}

/// The tool call of another task that a task works for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ParentView {
    /// The parent.
    #[schema(value_type = Uuid)]
    pub task: TaskId,
    /// The parent's tool call that waits for this task.
    pub call_id: String,
}

/// Where more about a task is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskLinks {
    /// The task itself.
    #[serde(rename = "self")]
    pub this: String,
    /// Its journal.
    pub journal: String,
    /// Its events.
    pub events: String,
    /// Its conversation's messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// The task that delegated it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
}

impl From<Task> for TaskView {
    /// The view of a list: without output and without what it waits for.
    fn from(task: Task) -> Self {
        let this = format!("/tasks/{}", task.id);
        let links = TaskLinks {
            journal: format!("{this}/journal"),
            events: format!("{this}/events"),
            thread: task.thread.map(|thread| format!("/threads/{thread}/messages")),
            parent: task.parent.as_ref().map(|parent| format!("/tasks/{}", parent.task)),
            this,
        };
        Self {
            id: task.id,
            agent: task.agent,
            agent_version: task.agent_version,
            execution_mode: task.mode,
            status: task.status,
            cancelling: task.cancel_requested && !task.status.is_terminal(),
            output: None,
            failure: task.failure,
            waiting_for: Vec::new(),
            attempt: task.attempt,
            priority: task.priority,
            created_at: task.created_at,
            run_at: task.run_at,
            expires_at: task.expires_at,
            deadline: task.deadline,
            started_at: task.started_at,
            finished_at: task.finished_at,
            thread_id: task.thread,
            user: task.user,
            limit_key: task.terms.limit_key,
            parent: task.parent.map(|parent| ParentView { task: parent.task, call_id: parent.call_id }),
            depth: task.depth,
            metadata: task.metadata,
            idempotency_key: task.idempotency_key,
            usage: task.usage,
            links,
        }
    }
}
