//! One piece of work for an agent, and the states that it passes through.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{AgentName, ExecutionMode, Failure, Image, Namespace, TaskId, Terms, ThreadId, Timestamp, Usage, WorkerId};

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// Ready, or ready at `run_at`; no worker has it.
    Queued,
    /// A worker holds it.
    Running,
    /// It waits for sub-tasks, a person, a timer or a message; no worker has it.
    Waiting,
    /// It ended with an answer.
    Succeeded,
    /// It ended with a failure.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

impl TaskStatus {
    /// All of them, in the order of a task's life.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Waiting, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// Tells whether the task has ended.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// Tells whether a task may go from this status to `next`.
    ///
    /// A person's retry of a dead letter (`failed` or `cancelled` to `queued`) begins a new life and is not an edge of
    /// this graph.
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Queued => matches!(next, Self::Running | Self::Failed | Self::Cancelled),
            Self::Running => next != Self::Running,
            Self::Waiting => matches!(next, Self::Queued | Self::Failed | Self::Cancelled),
            Self::Succeeded | Self::Failed | Self::Cancelled => false,
        }
    }

    /// The name as it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TaskStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| "must be one of queued, running, waiting, succeeded, failed, cancelled".to_owned())
    }
}

/// What a task is asked to do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskInput {
    /// The request in words.
    pub prompt: String,
    /// Further data for the agent, given to the model as JSON after the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// Pictures for the model, by reference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
}

impl TaskInput {
    /// A request in words alone.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self { prompt: prompt.into(), data: None, images: Vec::new() }
    }
}

/// The tool call of another task that a task works for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ParentRef {
    /// The parent.
    pub task: TaskId,
    /// The parent's tool call that waits for this task.
    pub call_id: String,
}

/// A task that is to be recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewTask {
    /// Its id, made by whoever submits it.
    pub id: TaskId,
    /// Who owns it.
    pub namespace: Namespace,
    /// Submitting the same key again in the namespace names the first task instead of making another.
    pub idempotency_key: Option<String>,
    /// Digest of the request; the same key with another digest is a conflict.
    pub digest: [u8; 32],
    /// Its agent.
    pub agent: AgentName,
    /// The version of the agent that it runs with, to its end.
    pub agent_version: u32,
    /// The pool that runs it.
    pub mode: ExecutionMode,
    /// What it is asked to do.
    pub input: TaskInput,
    /// 0 (last) to 9 (first).
    pub priority: u8,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// Not before this moment.
    pub run_at: Option<Timestamp>,
    /// It fails with `expired` when no worker has started it by then.
    pub expires_at: Option<Timestamp>,
    /// It fails with `deadline_exceeded` when it has not ended by then.
    pub deadline: Option<Timestamp>,
    /// The conversation that it belongs to.
    pub thread: Option<ThreadId>,
    /// For whom it works.
    pub user: Option<String>,
    /// The task that delegated it.
    pub parent: Option<ParentRef>,
    /// How many delegations lie above it; more where its agent may go deeper than those that it works for.
    pub depth: u32,
    /// Labels that its owner gave it.
    pub metadata: BTreeMap<String, String>,
    /// The W3C `traceparent` of the request that brought it.
    pub trace: Option<String>,
    /// Its limits and the accounts that pay for it.
    pub terms: Terms,
}

/// A task as recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Who owns it.
    pub namespace: Namespace,
    /// The key under which it was submitted.
    pub idempotency_key: Option<String>,
    /// Its agent.
    pub agent: AgentName,
    /// The version of the agent that it runs with.
    pub agent_version: u32,
    /// The pool that runs it.
    pub mode: ExecutionMode,
    /// Where it is in its life.
    pub status: TaskStatus,
    /// 0 (last) to 9 (first).
    pub priority: u8,
    /// How many attempts have failed since it was submitted or retried by a person.
    pub attempt: u32,
    /// Its current lease; counts up at every claim.
    pub epoch: u32,
    /// The worker that holds it.
    pub worker: Option<WorkerId>,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// Not before this moment.
    pub run_at: Option<Timestamp>,
    /// It fails when no worker has started it by then.
    pub expires_at: Option<Timestamp>,
    /// It fails when it has not ended by then.
    pub deadline: Option<Timestamp>,
    /// When a worker first claimed it.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// The conversation that it belongs to.
    pub thread: Option<ThreadId>,
    /// For whom it works.
    pub user: Option<String>,
    /// The task that delegated it.
    pub parent: Option<ParentRef>,
    /// How many delegations lie above it; more where its agent may go deeper than those that it works for.
    pub depth: u32,
    /// Labels that its owner gave it.
    pub metadata: BTreeMap<String, String>,
    /// True from the moment somebody asked it to stop until it has.
    pub cancel_requested: bool,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// What it used; complete when it has ended.
    pub usage: Usage,
    /// The W3C `traceparent` of the request that brought it.
    pub trace: Option<String>,
    /// Its limits and the accounts that pay for it.
    pub terms: Terms,
}

/// The right to write to a task: every write carries it and is refused once a later claim made a higher epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    /// The task.
    pub task: TaskId,
    /// The claim.
    pub epoch: u32,
}

/// A hint that a worker may claim a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReadyTask {
    /// The task.
    pub task: TaskId,
    /// The pool that runs it.
    pub mode: ExecutionMode,
    /// 0 (last) to 9 (first).
    pub priority: u8,
}
