//! What is told to whoever listens, after the commit. Events are hints: a reader that misses one reads the journal.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{AgentName, BudgetLevel, Namespace, PoolReport, Step, TaskId, TaskStatus};

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Who may see it.
    pub namespace: Namespace,
    /// What happened.
    pub body: EventBody,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event")]
pub enum EventBody {
    /// A task was accepted.
    #[serde(rename = "task.created")]
    TaskCreated {
        /// The task.
        task: TaskId,
        /// Its agent.
        agent: AgentName,
    },
    /// A task changed its status without ending.
    #[serde(rename = "task.status")]
    TaskStatus {
        /// The task.
        task: TaskId,
        /// The new status.
        status: TaskStatus,
    },
    /// A step was journaled.
    #[serde(rename = "task.step")]
    TaskStep {
        /// The task.
        task: TaskId,
        /// The step.
        step: Arc<Step>,
    },
    /// A piece of a model's answer that is still being spoken.
    #[serde(rename = "task.delta")]
    TaskDelta {
        /// The task.
        task: TaskId,
        /// The piece.
        delta: Delta,
    },
    /// A tool that is still at work says how far it is.
    #[serde(rename = "task.progress")]
    ToolProgress {
        /// The task.
        task: TaskId,
        /// The call.
        call_id: String,
        /// What it says; may be empty.
        message: String,
        /// How much of the work is done, 0 to 1, when it says so.
        fraction: Option<f64>,
    },
    /// A budget has reached four fifths of a limit.
    #[serde(rename = "budget.warning")]
    BudgetWarning {
        /// The task whose call reached it.
        task: TaskId,
        /// How the account stands.
        level: BudgetLevel,
    },
    /// A task ended.
    #[serde(rename = "task.finished")]
    TaskFinished {
        /// The task.
        task: TaskId,
        /// Its terminal status.
        status: TaskStatus,
    },
    /// A running task was asked to stop.
    #[serde(rename = "task.cancel_requested")]
    CancelRequested {
        /// The task.
        task: TaskId,
    },
    /// An agent has a new version.
    #[serde(rename = "agent.updated")]
    AgentUpdated {
        /// The agent.
        agent: AgentName,
        /// Its new version.
        version: u32,
    },
    /// A worker process says how it does. Of no namespace's business: never shown as an event of the API.
    #[serde(rename = "pool.report")]
    PoolReport {
        /// What it says.
        report: Box<PoolReport>,
    },
}

impl EventBody {
    /// The task it is about, if any.
    pub fn task(&self) -> Option<TaskId> {
        match self {
            Self::TaskCreated { task, .. }
            | Self::TaskStatus { task, .. }
            | Self::TaskStep { task, .. }
            | Self::TaskDelta { task, .. }
            | Self::ToolProgress { task, .. }
            | Self::BudgetWarning { task, .. }
            | Self::TaskFinished { task, .. }
            | Self::CancelRequested { task } => Some(*task),
            Self::AgentUpdated { .. } | Self::PoolReport { .. } => None,
        }
    }

    /// Who needs it.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::TaskDelta { .. } => EventKind::Delta,
            Self::TaskStep { .. } => EventKind::Step,
            Self::TaskCreated { .. }
            | Self::TaskStatus { .. }
            | Self::ToolProgress { .. }
            | Self::BudgetWarning { .. } => EventKind::Progress,
            Self::TaskFinished { .. } => EventKind::End,
            Self::CancelRequested { .. } | Self::AgentUpdated { .. } | Self::PoolReport { .. } => EventKind::Control,
        }
    }
}

/// Who needs an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// Whoever watches the task: a piece of an answer, kept for those who come late.
    Delta,
    /// Whoever watches the task: a step.
    Step,
    /// Whoever watches the task: what else happens to it before its end.
    Progress,
    /// Whoever waits for the task.
    End,
    /// The services themselves.
    Control,
}

/// A numbered piece of the answer that will become step `seq`.
///
/// A delta of a higher epoch means that a worker died in mid-stream and the step starts anew: what came before is void.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The step that it will become part of.
    pub seq: u32,
    /// The lease under which it was spoken.
    pub epoch: u32,
    /// Which model call within that lease, from 1: a call that broke off and was made again counts up.
    pub call: u32,
    /// Its number within the call, from 1, without gaps.
    pub n: u32,
    /// The words.
    pub text: String,
}
