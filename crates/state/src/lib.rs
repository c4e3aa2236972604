//! The system of record: a port with one trait, the rules that every adapter shares, and the suite that every adapter
//! must pass.
//!
//! All writes are durable when they are answered, unless a method says otherwise. All of them are safe to repeat.

pub mod agents;
#[cfg(feature = "codec")]
pub mod codec;
#[cfg(feature = "contract")]
pub mod contract;
mod error;
pub mod gates;
pub mod gather;
pub mod leases;
mod types;

use async_trait::async_trait;
use domain::{
    Amount, BudgetLevel, Lease, Namespace, NewTask, Step, Task, TaskId, Thread, ThreadId, ThreadMessage, Timestamp,
    WorkerId,
};

pub use error::StateError;
pub use types::{
    AccountView, Artifact, AttemptFailed, Cancelled, Claim, Claimed, Due, ExpireOutcome, Finish, GateWait, LeaseBeat,
    MAX_ARTIFACT_BYTES, MAX_ARTIFACTS, NewStep, NewThreadMessage, Outcome, Page, Park, Purged, PutCondition, Renewed,
    Reserve, ReserveId, Reserved, Retention, Signal, StateStats, StateValue, Submitted, TaskFilter, Transition,
};

/// The system of record.
///
/// A task's life: `submit`, then by a worker `claim`, `renew` and `append`, and one of `park`, `finish`, `fail_attempt`
/// and `release`. Every write of a worker carries its `Lease` and is refused with `StateError::LeaseLost` when a later
/// claim, a cancellation's end or a reaper took the task away, checked in the same transaction as the write.
///
/// What makes other tasks ready or ends them is returned as a `Transition`, for the caller to announce after the commit;
/// a caller that dies before it has announced loses nothing: `due` returns the same tasks again.
#[async_trait]
pub trait State: Send + Sync + 'static {
    /// Records a task as queued, with its input as step 0.
    ///
    /// Idempotent by namespace and idempotency key: the same key with the same digest returns the first task and
    /// `created: false`; with another digest it is `StateError::IdempotencyMismatch`. The same id twice without a key
    /// is treated in the same way. A task in a thread makes the thread when there is none.
    async fn submit(&self, task: NewTask) -> Result<Submitted, StateError>;

    /// Gives a worker the lease of a task, with its next epoch, its whole journal and its thread's messages.
    ///
    /// `None` when the task cannot be claimed: it is not queued, its time has not come, an earlier task of its thread
    /// has not ended, one of its gates is closed, or it does not exist. Gates are decided in the claim's transaction: a task
    /// that one holds back is remembered, and is in the transition of the write that opens the gate for it, or in that of
    /// `due` once its time has come; among those held back the higher priority goes first, then the older. It is answered before it is durable: the claim is in the commit queue before
    /// any later write of the same caller, so the first step that is durable makes it durable too, and a claim that was
    /// lost is found by the first write under it, which is refused.
    async fn claim(&self, claim: Claim) -> Result<Option<Claimed>, StateError>;

    /// Tells that a worker process lives and still holds these leases; one call for all of them.
    ///
    /// Returns those that it no longer holds, and those whose task was asked to stop.
    async fn renew(&self, worker: WorkerId, leases: Vec<Lease>) -> Result<Renewed, StateError>;

    /// Appends finished steps. `(task, seq)` is unique: the same step again is accepted and changes nothing.
    async fn append(&self, lease: Lease, steps: Vec<NewStep>) -> Result<(), StateError>;

    /// Appends the step `Parked`, records sub-tasks and waits, and releases the worker, in one transaction.
    ///
    /// What was already resolved when it parks (a sub-task that has ended, a signal that came early) is resolved at
    /// once; when nothing is left to wait for, the task is queued again and is in the returned transition.
    /// The sub-tasks are submitted as by `submit`.
    async fn park(&self, lease: Lease, park: Park) -> Result<Transition, StateError>;

    /// Appends steps, then reserves an amount in every budget account of the task, or in none of them.
    ///
    /// It is granted when for every account, and everything that the account limits, what is spent, reserved and asked for
    /// together is at most the limit with the task's grants. The steps are kept even when it is refused. Durable when it is
    /// answered, so that not even a crash makes a call that nothing was reserved for. The windows are those that
    /// `Reserve::at` lies in, and it is settled in them even when they are over by then.
    ///
    /// A model's reservation is settled by the append, park or finish of its step under the same lease: what the step's own
    /// `usage` says is spent, with the calls that were reserved, and the rest is free again. One that is still open when its
    /// lease ends, in whatever way, is counted as spent in full: nobody knows what its call used. The same again under one
    /// lease changes nothing. A task without accounts reserves nothing and is always granted.
    async fn reserve(&self, lease: Lease, steps: Vec<NewStep>, reserve: Reserve) -> Result<Reserved, StateError>;

    /// Settles the reservation of a model call that gave no step: `spent`, its calls included, is spent, the rest is free
    /// again. The same id may then be reserved anew, for the next try.
    ///
    /// Answered before it is durable: when a crash loses it, the reservation is counted as spent in full. Ignored when nothing
    /// is reserved under the id, and when the lease is lost.
    async fn settle(&self, lease: Lease, id: ReserveId, spent: Amount) -> Result<(), StateError>;

    /// Lists how a task's budget accounts stand in the windows that `now` lies in, in the order of its terms: one level for
    /// each thing that they limit, without grants, which only the journal knows. Empty when the task does not exist.
    async fn budget(&self, namespace: &Namespace, task: TaskId, now: Timestamp)
    -> Result<Vec<BudgetLevel>, StateError>;

    /// Lists the accounts of a namespace that were used in the windows that `now` lies in, by key, an hour before a day; tasks' own
    /// accounts are left out.
    async fn accounts(&self, namespace: &Namespace, now: Timestamp) -> Result<Vec<AccountView>, StateError>;

    /// Says which gate holds a queued task back, with who holds it and the task's place; none when no gate does.
    async fn gate(&self, namespace: &Namespace, task: TaskId, now: Timestamp) -> Result<Option<GateWait>, StateError>;

    /// Records a file of the task under its name; one of the same name is replaced. The same again changes nothing.
    ///
    /// The bytes are already in the blob store. `StateError::TooLarge` above `MAX_ARTIFACTS` or `MAX_ARTIFACT_BYTES` of one task.
    async fn put_artifact(&self, lease: Lease, artifact: Artifact) -> Result<(), StateError>;

    /// Lists the files of a task, by name. Empty when the task does not exist.
    async fn artifacts(&self, namespace: &Namespace, task: TaskId) -> Result<Vec<Artifact>, StateError>;

    /// Tells which of these blobs a task's file refers to, in the same order: the others may be deleted.
    async fn referenced(&self, digests: Vec<[u8; 32]>) -> Result<Vec<bool>, StateError>;

    /// Ends the task: the last steps, the outcome, its usage and the thread's new messages, in one transaction.
    ///
    /// Resolves its parent's wait. The next task of the thread, and a parent that waits for nothing else, are in the
    /// returned transition. `Outcome::Cancelled` cancels its sub-tasks, too. The same outcome again, under the lease
    /// that ended the task, is accepted and changes nothing.
    async fn finish(&self, lease: Lease, finish: Finish) -> Result<Transition, StateError>;

    /// Appends the step `AttemptFailed`, counts the attempt and queues the task for `retry_at`.
    async fn fail_attempt(&self, lease: Lease, failed: AttemptFailed) -> Result<Transition, StateError>;

    /// Gives an unfinished task back; it costs no attempt and is ready at once.
    async fn release(&self, lease: Lease) -> Result<Transition, StateError>;

    /// Queues a failed or cancelled task again with no attempts counted, and appends the step `Retried`.
    ///
    /// `StateError::Conflict` when the task has not failed or been cancelled, or when it is a sub-task whose parent has
    /// already been told.
    async fn retry(&self, namespace: &Namespace, task: TaskId, keep_journal: bool) -> Result<Transition, StateError>;

    /// Asks a task to stop: at once when it is queued or waiting (with its sub-tasks), else its worker is told.
    ///
    /// Asking again is harmless; a task that has ended is `StateError::Ended`.
    async fn cancel(&self, namespace: &Namespace, task: TaskId) -> Result<Cancelled, StateError>;

    /// Delivers a named value to a task: to the oldest wait for that name, else it is kept for the next one.
    ///
    /// Idempotent by `Signal::key`. A task that has ended is `StateError::Ended`.
    async fn signal(&self, namespace: &Namespace, task: TaskId, signal: Signal) -> Result<Transition, StateError>;

    /// Finds what time or an outage made ready, at most `limit` tasks: wakes timers, expires waits, and returns queued tasks whose
    /// time has come and that nobody has announced within `reannounce` (all of them after the store was opened).
    async fn due(&self, now: Timestamp, reannounce: std::time::Duration, limit: u32) -> Result<Due, StateError>;

    /// Lists the leases that are held, for `leases::LeaseWatch`.
    async fn leases(&self) -> Result<Vec<LeaseBeat>, StateError>;

    /// Takes these leases away, if nobody renewed them since, and queues their tasks again with the step `LeaseLost`.
    ///
    /// A task that lost `max_losses` leases without a step in between fails with `worker_lost`.
    async fn reap(&self, leases: Vec<LeaseBeat>, max_losses: u32, now: Timestamp) -> Result<Transition, StateError>;

    /// Fails queued tasks whose time to live has passed, and queued or waiting tasks whose deadline has passed.
    async fn expire(&self, now: Timestamp, limit: u32) -> Result<ExpireOutcome, StateError>;

    /// Deletes what retention no longer keeps, at most `limit` rows: ended tasks with their journals, files and own budget
    /// accounts, expired values, and the accounts of an hour or a day that began 8 days ago.
    async fn purge(&self, retention: Retention, now: Timestamp, limit: u32) -> Result<Purged, StateError>;

    /// Finds a task.
    async fn task(&self, namespace: &Namespace, task: TaskId) -> Result<Option<Task>, StateError>;

    /// Finds a succeeded task's answer: its last model step.
    async fn answer(&self, namespace: &Namespace, task: TaskId) -> Result<Option<serde_json::Value>, StateError>;

    /// Finds a task and, when it succeeded, its answer, in one look.
    async fn task_with_answer(
        &self,
        namespace: &Namespace,
        task: TaskId,
    ) -> Result<Option<(Task, Option<serde_json::Value>)>, StateError>;

    /// Lists tasks, the newest first, up to `limit`; `after` is the last id of the page before.
    async fn tasks(
        &self,
        namespace: &Namespace,
        filter: TaskFilter,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Page<Task>, StateError>;

    /// Lists a task's journal from `from`, in order. Empty when the task does not exist.
    async fn journal(
        &self,
        namespace: &Namespace,
        task: TaskId,
        from: u32,
        limit: u32,
    ) -> Result<Vec<Step>, StateError>;

    /// Lists threads, the newest first.
    async fn threads(
        &self,
        namespace: &Namespace,
        after: Option<ThreadId>,
        limit: u32,
    ) -> Result<Page<Thread>, StateError>;

    /// Lists a thread's messages after `after`, in order; `None` when the thread does not exist.
    async fn thread_messages(
        &self,
        namespace: &Namespace,
        thread: ThreadId,
        after: u64,
        limit: u32,
    ) -> Result<Option<Vec<ThreadMessage>>, StateError>;

    /// Finds a value that has not expired.
    async fn value(
        &self,
        namespace: &Namespace,
        scope: &str,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<StateValue>, StateError>;

    /// Stores a value under its next version, with a time to live if given; `StateError::VersionMismatch` when `condition` does not hold.
    #[expect(clippy::too_many_arguments, reason = "a key, a value and its terms; a struct would only rename them")]
    async fn put_value(
        &self,
        namespace: &Namespace,
        scope: &str,
        key: &str,
        value: serde_json::Value,
        expires_at: Option<Timestamp>,
        condition: PutCondition,
        now: Timestamp,
    ) -> Result<StateValue, StateError>;

    /// Deletes a value; false when there was none.
    async fn delete_value(&self, namespace: &Namespace, scope: &str, key: &str) -> Result<bool, StateError>;

    /// Lists a scope's values by key, those after `after`.
    async fn values(
        &self,
        namespace: &Namespace,
        scope: &str,
        after: Option<&str>,
        limit: u32,
        now: Timestamp,
    ) -> Result<Page<StateValue>, StateError>;

    /// Counts what is stored.
    async fn stats(&self, namespace: Option<&Namespace>) -> Result<StateStats, StateError>;

    /// Proves that the store answers, for readiness checks.
    async fn ping(&self) -> Result<(), StateError>;

    /// Commits what is queued and closes the store; later calls fail with `StateError::Closed`.
    async fn close(&self);
}
