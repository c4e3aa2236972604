//! What goes into the system of record and comes out of it.
//!
//! All of it crosses process borders as JSON: a new field is given a default, and names are kept.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use domain::{
    AgentName, Amount, BudgetLevel, BudgetWindow, ExecutionMode, Failure, Gate, Lease, NewTask, ReadyTask, Step,
    StepBody, Task, TaskId, TaskStatus, ThreadId, ThreadMessage, Timestamp, Usage, Wait, WorkerId,
};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// What a submit did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Submitted {
    /// The task: the new one, or the one that the key already named.
    pub task: Task,
    /// False when the key already named a task.
    pub created: bool,
}

/// A worker's wish for a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claim {
    /// The task.
    pub task: TaskId,
    /// Who wants it.
    pub worker: WorkerId,
    /// The time of the claim.
    pub now: Timestamp,
    /// How many of the thread's latest messages are wanted at most.
    pub thread_messages: u32,
}

/// A claimed task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claimed {
    /// The task; its epoch is the lease's.
    pub task: Task,
    /// Its journal, whole and in order, the input first.
    pub steps: Vec<Step>,
    /// What its thread said before it, oldest first.
    pub thread: Vec<ThreadMessage>,
}

impl Claimed {
    /// The lease that the claim gave.
    pub fn lease(&self) -> Lease {
        Lease { task: self.task.id, epoch: self.task.epoch }
    }
}

/// What a renewal found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Renewed {
    /// No longer held: drop these runs at once.
    pub lost: Vec<Lease>,
    /// Held, and asked to stop.
    pub cancel: Vec<Lease>,
}

/// A step to be appended; its epoch is the lease's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewStep {
    /// Its position: one more than the last one's.
    pub seq: u32,
    /// When it was finished.
    pub at: Timestamp,
    /// What happened.
    pub body: StepBody,
}

/// How a task begins to wait.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Park {
    /// Steps to append first.
    pub steps: Vec<NewStep>,
    /// The number of the step `Parked`, which the state makes of `waits`.
    pub seq: u32,
    /// When.
    pub at: Timestamp,
    /// What it waits for; never empty.
    pub waits: Vec<Wait>,
    /// The sub-tasks that the waits name.
    pub children: Vec<NewTask>,
}

/// Names a reservation within its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReserveId {
    /// The model call whose answer will be step `seq`: settled by that step.
    Model {
        /// The step's number.
        seq: u32,
    },
    /// The tool calls that the model's answer at step `seq` asked for: spent at once, and once for ever.
    Tools {
        /// The number of the model's step.
        seq: u32,
    },
}

/// What is reserved before a call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reserve {
    /// Names the reservation.
    pub id: ReserveId,
    /// The worst case.
    pub amount: Amount,
    /// What people granted this task beyond the limits, by the key of the account; several for one key add up.
    pub grants: Vec<(String, Amount)>,
    /// When.
    pub at: Timestamp,
}

/// What a reservation found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reserved {
    /// The amount is reserved.
    Granted {
        /// Accounts that reached four fifths of a limit (without grants) with it, for the first time in their window, as
        /// they stood before it.
        warnings: Vec<BudgetLevel>,
    },
    /// An account does not allow it; nothing is reserved. The first one, in the order of the task's terms.
    Refused(BudgetLevel),
}

/// How an account stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccountView {
    /// Its key.
    pub key: String,
    /// For how long it counts.
    pub window: BudgetWindow,
    /// When its window began.
    pub since: Timestamp,
    /// What is spent.
    pub spent: Amount,
    /// What is reserved for calls under way.
    pub reserved: Amount,
}

/// Why a gate holds a task back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateWait {
    /// The gate.
    pub gate: Gate,
    /// Tasks that hold it, the longest first, at most 10; none for a limit on starts.
    pub holders: Vec<TaskId>,
    /// The task's place among those that the gate holds back, from 1.
    pub position: u64,
    /// When the gate opens by itself, for a limit on starts.
    pub until: Option<Timestamp>,
}

/// The most files of one task.
pub const MAX_ARTIFACTS: usize = 1_000;
/// The most bytes of all files of one task.
pub const MAX_ARTIFACT_BYTES: u64 = 1024 * 1024 * 1024;

/// A file that is kept with a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its name, unique in the task.
    pub name: String,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// BLAKE3 of its bytes: the blob's name.
    pub digest: [u8; 32],
    /// When it was written.
    pub at: Timestamp,
}

/// How a task ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Finish {
    /// Steps to append first; the last one of a succeeded task is the model step with the answer, unless that is already in the journal.
    pub steps: Vec<NewStep>,
    /// How it ends.
    pub outcome: Outcome,
    /// What the whole task used.
    pub usage: Usage,
    /// What it adds to its thread; ignored without a thread.
    pub messages: Vec<NewThreadMessage>,
    /// When.
    pub at: Timestamp,
}

/// One of the words that a role may be; behind a name, because serde would borrow a plain reference from what it reads.
type Role = &'static str;

/// A message for a thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewThreadMessage {
    /// `user` or `assistant`.
    #[serde(deserialize_with = "role")]
    pub role: Role,
    /// The words.
    pub text: String,
}

/// Reads a role as one of the words that there are.
fn role<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'static str, D::Error> {
    match <Cow<'de, str>>::deserialize(deserializer)?.as_ref() {
        "user" => Ok("user"),
        "assistant" => Ok("assistant"),
        _ => Err(D::Error::custom("a role is `user` or `assistant`")),
    }
}

/// A terminal outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The last model step is the answer.
    Succeeded,
    /// It failed for good.
    Failed(Failure),
    /// It stopped because somebody asked it to.
    Cancelled,
}

/// An attempt that failed and will be followed by another.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttemptFailed {
    /// The number of the step `AttemptFailed`.
    pub seq: u32,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub failure: Failure,
    /// When the next attempt may start.
    pub retry_at: Timestamp,
}

/// What a write changed beside its own task, for the caller to announce.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// Ready now: hand them to their pools.
    pub ready: Vec<ReadyTask>,
    /// Ended, with their terminal status; the written task itself is among them when it ended.
    pub ended: Vec<(TaskId, TaskStatus)>,
    /// Held by a worker and asked to stop: tell the pools.
    pub stopping: Vec<TaskId>,
}

impl Transition {
    /// Adds another's changes.
    pub fn merge(&mut self, other: Self) {
        self.ready.extend(other.ready);
        self.ended.extend(other.ended);
        self.stopping.extend(other.stopping);
    }
}

/// What a cancellation did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cancelled {
    /// The task after it.
    pub task: Task,
    /// What it changed.
    pub transition: Transition,
}

/// A named value for a waiting task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Signal {
    /// The name.
    pub name: String,
    /// The value.
    pub value: Value,
    /// Who sends it.
    pub from: Option<String>,
    /// The same key again changes nothing.
    pub key: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// What time made ready.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Due {
    /// What changed.
    pub transition: Transition,
    /// When the next timer, wait or delayed task comes due, if any is known.
    pub next: Option<Timestamp>,
}

/// A held lease and its renewals so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseBeat {
    /// The lease.
    pub lease: Lease,
    /// Who holds it.
    pub worker: WorkerId,
    /// Counts up at every renewal.
    pub beat: u64,
}

/// What an expiry did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ExpireOutcome {
    /// What changed.
    pub transition: Transition,
    /// How many tasks failed by it.
    pub expired: u32,
}

/// How long things are kept.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Retention {
    /// Ended tasks with their journals, from their end. Sub-tasks are kept as long as their parent.
    pub ended_tasks: Duration,
    /// Idempotency keys of tasks that are gone, from their submission.
    pub idempotency_keys: Duration,
}

/// What a purge deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// Tasks.
    pub tasks: u64,
    /// Values.
    pub values: u64,
}

/// Which tasks to list; what is `None` is not asked about.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TaskFilter {
    /// Of one agent.
    pub agent: Option<AgentName>,
    /// In one of these statuses; empty means any.
    pub statuses: Vec<TaskStatus>,
    /// Of one thread.
    pub thread: Option<ThreadId>,
    /// Sub-tasks of one task.
    pub parent: Option<TaskId>,
}

/// A page of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// True when there are more after the last one.
    pub more: bool,
}

/// When a value may be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PutCondition {
    /// Always.
    Always,
    /// Only when there is none yet.
    Absent,
    /// Only over this version.
    Version(u64),
}

/// A stored value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateValue {
    /// Its key within the scope.
    pub key: String,
    /// Counts up at every put; a key that was deleted and put again starts anew at 1.
    pub version: u64,
    /// The value.
    pub value: Value,
    /// When it was put.
    pub updated_at: Timestamp,
    /// When it disappears.
    pub expires_at: Option<Timestamp>,
}

/// Counts of what is stored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StateStats {
    /// Tasks by status.
    pub tasks: BTreeMap<TaskStatus, u64>,
    /// Tasks that have not ended, by agent and status.
    pub active: Vec<(AgentName, TaskStatus, u64)>,
    /// Queued tasks by pool.
    pub queued: BTreeMap<ExecutionMode, u64>,
    /// Stored values.
    pub values: u64,
    /// Threads.
    pub threads: u64,
    /// Bytes that the store takes on disk.
    pub bytes: u64,
}
