//! The system of record in PostgreSQL: any number of processes on one database, durable when it answers.
//!
//! ```text
//!   callers ──encode──► fast lanes: set-based batches ─┐ what is not plain
//!                       full lane: one after another ◄─┘──► one transaction a batch ──► answers
//!   renewals: a connection of their own          reads: a pool of their own
//! ```
//!
//! Nothing is remembered in a process that the database does not know: epochs, renewals, gates and accounts are decided in
//! the transaction that they concern. `docs/adr/0007-every-answer-follows-its-commit.md` says what differs from SQLite.

mod accounts;
mod books;
mod fault;
mod lookup;
pub mod migrate;
mod ops;
mod options;
mod pool;
mod read;
mod ready;
mod retry;
mod rows;
mod tx;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::{
    Amount, BudgetLevel, Clock, Lease, Namespace, NewTask, Step, Task, TaskId, Thread, ThreadId, ThreadMessage,
    Timestamp, WorkerId,
};
use serde_json::Value;
use state::{
    AccountView, Artifact, AttemptFailed, Cancelled, Claim, Claimed, Due, ExpireOutcome, Finish, GateWait, LeaseBeat,
    NewStep, Page, Park, Purged, PutCondition, Renewed, Reserve, ReserveId, Reserved, Retention, Signal, State,
    StateError, StateStats, StateValue, Submitted, TaskFilter, Transition,
};

use crate::books::SharedBooks;
use crate::lookup::{Found, Lookups};
use crate::pool::{Attempts, Pools, within};
use crate::ready::Readiness;
use crate::tx::EncodedStep;
use crate::writer::{FastJob, FastLanes, FullLane, Write};
use state::codec::Body;

pub use options::{Durability, PostgresOptions};

/// The system of record in a PostgreSQL database.
pub struct PostgresState {
    threshold: usize,
    ready: Arc<Readiness>,
    pools: Arc<Pools>,
    books: SharedBooks,
    fast: FastLanes,
    full: Arc<FullLane>,
    lookups: Lookups,
}

impl std::fmt::Debug for PostgresState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresState").field("ready", &self.ready).finish_non_exhaustive()
    }
}

impl PostgresState {
    /// Opens a database. Returns at once, even while no server answers: until one does, and its settings and its schema are
    /// in order, every call fails with `StateError::Unavailable`, which says why.
    ///
    /// Must be called in a Tokio runtime, where it keeps tasks running until `close`, or until it is dropped.
    #[expect(clippy::needless_pass_by_value, reason = "the clock is shared with the lanes, as with every other store")]
    pub fn open(options: PostgresOptions, clock: Arc<dyn Clock>) -> Arc<Self> {
        let threshold = options.compression_threshold;
        let pools = Arc::new(Pools::new(&options));
        let ready = Readiness::start(options, Arc::clone(&pools));
        let books = SharedBooks::default();
        let full =
            FullLane::start(Arc::clone(&pools), Arc::clone(&ready), books.clone(), Arc::clone(&clock), threshold);
        let fast = FastLanes::start(&pools, &ready, &full, &clock);
        let lookups = Lookups::new(&pools);
        Arc::new(Self { threshold, ready, pools, books, fast, full, lookups })
    }

    /// Hands an operation to the full lane and waits until it is durable.
    async fn write<W: Write>(&self, write: W) -> Result<W::Output, StateError> {
        self.ready.wait().await?;
        self.full.write(write).await
    }

    /// Finds a task, together with others that are looked for at the same time.
    async fn look_up(&self, namespace: &Namespace, task: TaskId, with_answer: bool) -> Result<Found, StateError> {
        self.ready.wait().await?;
        self.lookups.find(namespace, task, with_answer).await
    }

    /// Transactions that read.
    async fn reads(&self) -> Result<Attempts<'_>, StateError> {
        self.ready.wait().await?;
        Ok(self.pools.reads())
    }
}

impl Drop for PostgresState {
    fn drop(&mut self) {
        self.ready.close();
        self.fast.close();
        self.full.close();
    }
}

#[async_trait]
impl State for PostgresState {
    async fn submit(&self, task: NewTask) -> Result<Submitted, StateError> {
        let row = ops::NewRow::encode(task, self.threshold)?;
        self.ready.wait().await?;
        self.fast.run(|reply| FastJob::Submit { row: Box::new(row), reply }).await
    }

    async fn claim(&self, claim: Claim) -> Result<Option<Claimed>, StateError> {
        self.ready.wait().await?;
        let claimed = self.fast.run(|reply| FastJob::Claim { claim, reply }).await?;
        claimed.map(ops::RawClaimed::decode).transpose()
    }

    async fn renew(&self, worker: WorkerId, leases: Vec<Lease>) -> Result<Renewed, StateError> {
        self.ready.wait().await?;
        ops::renew::renew(&self.pools, worker, leases).await
    }

    async fn append(&self, lease: Lease, steps: Vec<NewStep>) -> Result<(), StateError> {
        let steps = EncodedStep::encode_all(&steps, self.threshold)?;
        self.ready.wait().await?;
        self.fast.run(|reply| FastJob::Append { append: ops::Append { lease, steps }, reply }).await
    }

    async fn reserve(&self, lease: Lease, steps: Vec<NewStep>, reserve: Reserve) -> Result<Reserved, StateError> {
        let steps = EncodedStep::encode_all(&steps, self.threshold)?;
        self.ready.wait().await?;
        let call = Box::new(ops::ReserveCall { lease, steps, reserve });
        self.fast.run(|reply| FastJob::Reserve { call, reply }).await
    }

    async fn settle(&self, lease: Lease, id: ReserveId, spent: Amount) -> Result<(), StateError> {
        match id {
            ReserveId::Model { seq } => self.write(ops::Settle { lease, seq, spent }).await,
            ReserveId::Tools { .. } => Ok(()),
        }
    }

    async fn budget(
        &self,
        namespace: &Namespace,
        task: TaskId,
        now: Timestamp,
    ) -> Result<Vec<BudgetLevel>, StateError> {
        within!(self.reads().await?, conn => accounts::levels(conn, namespace, task, now))
    }

    async fn accounts(&self, namespace: &Namespace, now: Timestamp) -> Result<Vec<AccountView>, StateError> {
        within!(self.reads().await?, conn => accounts::list(conn, namespace, now))
    }

    async fn gate(&self, namespace: &Namespace, task: TaskId, now: Timestamp) -> Result<Option<GateWait>, StateError> {
        within!(self.reads().await?, conn => self.books.wait(conn, namespace, task, now.timestamp_micros()))
    }

    async fn put_artifact(&self, lease: Lease, artifact: Artifact) -> Result<(), StateError> {
        self.write(ops::PutArtifact { lease, artifact }).await
    }

    async fn artifacts(&self, namespace: &Namespace, task: TaskId) -> Result<Vec<Artifact>, StateError> {
        within!(self.reads().await?, conn => ops::artifacts::list(conn, namespace, task))
    }

    async fn referenced(&self, digests: Vec<[u8; 32]>) -> Result<Vec<bool>, StateError> {
        within!(self.reads().await?, conn => ops::artifacts::referenced(conn, &digests))
    }

    async fn park(&self, lease: Lease, park: Park) -> Result<Transition, StateError> {
        self.write(ops::ParkTask::encode(lease, park, self.threshold)?).await
    }

    async fn finish(&self, lease: Lease, finish: Finish) -> Result<Transition, StateError> {
        let finish = Box::new(ops::FinishTask::encode(lease, finish, self.threshold)?);
        self.ready.wait().await?;
        self.fast.run(|reply| FastJob::Finish { finish, reply }).await
    }

    async fn fail_attempt(&self, lease: Lease, failed: AttemptFailed) -> Result<Transition, StateError> {
        self.write(ops::FailAttempt { lease, failed }).await
    }

    async fn release(&self, lease: Lease) -> Result<Transition, StateError> {
        self.write(ops::Release(lease)).await
    }

    async fn retry(&self, namespace: &Namespace, task: TaskId, keep_journal: bool) -> Result<Transition, StateError> {
        self.write(ops::RetryTask { namespace: namespace.clone(), task, keep_journal }).await
    }

    async fn cancel(&self, namespace: &Namespace, task: TaskId) -> Result<Cancelled, StateError> {
        self.write(ops::CancelTask { namespace: namespace.clone(), task }).await
    }

    async fn signal(&self, namespace: &Namespace, task: TaskId, signal: Signal) -> Result<Transition, StateError> {
        self.write(ops::SendSignal::encode(namespace.clone(), task, signal, self.threshold)?).await
    }

    async fn due(&self, now: Timestamp, reannounce: Duration, limit: u32) -> Result<Due, StateError> {
        self.write(ops::FindDue { now, reannounce, limit }).await
    }

    async fn leases(&self) -> Result<Vec<LeaseBeat>, StateError> {
        within!(self.reads().await?, conn => ops::renew::list(conn))
    }

    async fn reap(&self, leases: Vec<LeaseBeat>, max_losses: u32, now: Timestamp) -> Result<Transition, StateError> {
        self.write(ops::Reap { leases, max_losses, now }).await
    }

    async fn expire(&self, now: Timestamp, limit: u32) -> Result<ExpireOutcome, StateError> {
        self.write(ops::Expire { now, limit }).await
    }

    async fn purge(&self, retention: Retention, now: Timestamp, limit: u32) -> Result<Purged, StateError> {
        self.write(ops::Purge { retention, now, limit }).await
    }

    async fn task(&self, namespace: &Namespace, task: TaskId) -> Result<Option<Task>, StateError> {
        let found = self.look_up(namespace, task, false).await?;
        Ok(found.map(|(task, _)| task))
    }

    async fn answer(&self, namespace: &Namespace, task: TaskId) -> Result<Option<Value>, StateError> {
        within!(self.reads().await?, conn => read::answer(conn, namespace, task))
    }

    async fn task_with_answer(
        &self,
        namespace: &Namespace,
        task: TaskId,
    ) -> Result<Option<(Task, Option<Value>)>, StateError> {
        self.look_up(namespace, task, true).await
    }

    async fn tasks(
        &self,
        namespace: &Namespace,
        filter: TaskFilter,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Page<Task>, StateError> {
        within!(self.reads().await?, conn => read::tasks(conn, namespace, &filter, after, limit))
    }

    async fn journal(
        &self,
        namespace: &Namespace,
        task: TaskId,
        from: u32,
        limit: u32,
    ) -> Result<Vec<Step>, StateError> {
        within!(self.reads().await?, conn => read::journal(conn, namespace, task, from, limit))
    }

    async fn threads(
        &self,
        namespace: &Namespace,
        after: Option<ThreadId>,
        limit: u32,
    ) -> Result<Page<Thread>, StateError> {
        within!(self.reads().await?, conn => read::threads(conn, namespace, after, limit))
    }

    async fn thread_messages(
        &self,
        namespace: &Namespace,
        thread: ThreadId,
        after: u64,
        limit: u32,
    ) -> Result<Option<Vec<ThreadMessage>>, StateError> {
        within!(self.reads().await?, conn => read::thread_messages(conn, namespace, thread, after, limit))
    }

    async fn value(
        &self,
        namespace: &Namespace,
        scope: &str,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<StateValue>, StateError> {
        within!(self.reads().await?, conn => read::value(conn, namespace, scope, key, now))
    }

    async fn put_value(
        &self,
        namespace: &Namespace,
        scope: &str,
        key: &str,
        value: Value,
        expires_at: Option<Timestamp>,
        condition: PutCondition,
        now: Timestamp,
    ) -> Result<StateValue, StateError> {
        let body = Body::encode(&value, self.threshold, "a value")?;
        let (namespace, scope, key) = (namespace.clone(), scope.to_owned(), key.to_owned());
        self.write(ops::PutValue { namespace, scope, key, value, body, expires_at, condition, now }).await
    }

    async fn delete_value(&self, namespace: &Namespace, scope: &str, key: &str) -> Result<bool, StateError> {
        let (namespace, scope, key) = (namespace.clone(), scope.to_owned(), key.to_owned());
        self.write(ops::DeleteValue { namespace, scope, key }).await
    }

    async fn values(
        &self,
        namespace: &Namespace,
        scope: &str,
        after: Option<&str>,
        limit: u32,
        now: Timestamp,
    ) -> Result<Page<StateValue>, StateError> {
        within!(self.reads().await?, conn => read::values(conn, namespace, scope, after, limit, now))
    }

    async fn stats(&self, namespace: Option<&Namespace>) -> Result<StateStats, StateError> {
        within!(self.reads().await?, conn => read::stats(conn, namespace))
    }

    async fn ping(&self) -> Result<(), StateError> {
        self.ready.check()?;
        within!(self.pools.reads(), conn => read::ping(conn))
    }

    async fn close(&self) {
        self.ready.close();
        self.fast.close();
        self.fast.stopped().await;
        self.full.close();
        self.full.stopped().await;
        self.pools.close().await;
    }
}
