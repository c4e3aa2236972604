//! The payloads of a task's event stream (`GET /tasks/{task_id}/events`).
//!
//! Beside these, `task.step` carries a `JournalStep` and `task.finished` a `TaskView`.

use domain::{Delta, TaskId, TaskStatus};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::TaskStatusSchema;

/// The names of the events.
pub mod event_name {
    /// The task changed its status.
    pub const STATUS: &str = "task.status";
    /// A step was journaled.
    pub const STEP: &str = "task.step";
    /// A piece of an answer that is being spoken.
    pub const DELTA: &str = "task.delta";
    /// What was spoken of a step is void; it is spoken anew.
    pub const RESTART: &str = "task.restart";
    /// A tool that is still at work says how far it is. A hint without an id.
    pub const PROGRESS: &str = "task.progress";
    /// A budget has reached four fifths of a limit. A hint without an id.
    pub const BUDGET: &str = "budget.warning";
    /// The task ended; nothing follows.
    pub const FINISHED: &str = "task.finished";
}

/// The task changed its status without ending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "id": "0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10", "status": "running", "cancelling": false
}))]
pub struct StatusEvent {
    /// The task.
    #[schema(value_type = Uuid)]
    pub id: TaskId,
    /// Its status now.
    #[schema(value_type = TaskStatusSchema)]
    pub status: TaskStatus,
    /// True when somebody asked it to stop.
    pub cancelling: bool,
}

/// A numbered piece of the answer that will become step `seq`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "seq": 3, "epoch": 1, "call": 1, "n": 7, "text": "Three things" }))]
pub struct DeltaEvent {
    /// The step that it will become part of.
    pub seq: u32,
    /// The lease under which it was spoken.
    pub epoch: u32,
    /// Which model call within that lease, from 1.
    pub call: u32,
    /// Its number within the call, from 1, without gaps.
    pub n: u32,
    /// The words.
    pub text: String,
}

impl From<&Delta> for DeltaEvent {
    fn from(delta: &Delta) -> Self {
        Self { seq: delta.seq, epoch: delta.epoch, call: delta.call, n: delta.n, text: delta.text.clone() }
    }
}

/// What was spoken of step `seq` is void: a worker died or a call broke off, and the step is spoken anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "seq": 3, "epoch": 2, "call": 1 }))]
pub struct RestartEvent {
    /// The step.
    pub seq: u32,
    /// The lease under which it is spoken now.
    pub epoch: u32,
    /// The call of which the next pieces are.
    pub call: u32,
}

/// A tool that is still at work says how far it is. A hint: it may be lost, and is not told again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "call_id": "call_1", "message": "page 3 of 12", "fraction": 0.25 }))]
pub struct ProgressEvent {
    /// The call.
    pub call_id: String,
    /// What it says; may be empty.
    pub message: String,
    /// How much of the work is done, 0 to 1, when it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraction: Option<f64>,
}
