//! The system of record in one SQLite file: durable when it answers, one sync of the disk for all that waits.
//!
//! ```text
//!   callers ──encode──► queue ──► writer's thread: one transaction a batch ──► answers
//!      ▲                             │ leases in memory        │
//!      └── readers (own connections) │                         └► checkpoint thread: log -> file
//! ```
//!
//! A data directory belongs to one process at a time, which makes the rest simple: no other writer, leases that die with
//! their process, renewals that never touch the disk.

mod accounts;
mod checkpoint;
mod fault;
mod health;
mod leases;
mod lock;
mod ops;
mod read;
mod recovery;
mod rows;
mod schema;
mod tx;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
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
use tokio::sync::oneshot;

use crate::checkpoint::Checkpoints;
use crate::health::Health;
use crate::leases::Leases;
use crate::lock::DirectoryLock;
use crate::read::Readers;
use crate::tx::{EncodedStep, Tx};
use crate::writer::{Job, Message, Write, Writer};
use state::codec::Body;

/// How the store is opened.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The data directory; it is made when there is none, and belongs to this process while the store is open.
    pub dir: PathBuf,
    /// Bodies longer than this many bytes are compressed.
    pub compression_threshold: usize,
    /// How long a commit that nobody waits for may be put off.
    pub commit_delay: Duration,
    /// How many reads may run at once.
    pub readers: usize,
    /// The most pages of 4 KiB that the database may have; none lets it grow as the disk allows.
    pub max_pages: Option<u32>,
}

impl SqliteOptions {
    /// The defaults, for a data directory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            compression_threshold: 4_096,
            commit_delay: Duration::from_millis(5),
            readers: 4,
            max_pages: None,
        }
    }
}

/// The system of record in a data directory.
pub struct SqliteState {
    dir: PathBuf,
    threshold: usize,
    jobs: Sender<Message>,
    leases: Arc<Leases>,
    health: Arc<Health>,
    readers: Arc<Readers>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for SqliteState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteState").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl SqliteState {
    /// Opens a data directory: takes its lock, brings its schema up to date, and queues again what was running when the
    /// last process left it. Blocks while it does.
    ///
    /// `StateError::Unavailable` says what to do when another process has the directory, or a newer version wrote it.
    pub fn open(options: SqliteOptions, clock: Arc<dyn Clock>) -> Result<Arc<Self>, StateError> {
        let SqliteOptions { dir, compression_threshold: threshold, commit_delay, readers, max_pages } = options;
        let lock = DirectoryLock::take(&dir)?;
        let conn = schema::open_writer(&dir, max_pages)?;
        lock::sync_names(&dir)?;
        let leases = Arc::new(Leases::default());
        let tx = Tx { conn: &conn, leases: &leases, clock: clock.as_ref(), threshold };
        let recovered = recovery::run(&tx)?;
        if recovered > 0 {
            tracing::info!(tasks = recovered, "tasks that were running when the store was left were queued again");
        }
        let health = Arc::new(Health::default());
        let checkpoints = Checkpoints::start(&dir, Arc::clone(&health))?;
        let (jobs, queue) = channel();
        let writer = Writer {
            conn,
            leases: Arc::clone(&leases),
            clock,
            threshold,
            commit_delay,
            health: Arc::clone(&health),
            checkpoints,
            jobs: queue,
            dir: dir.clone(),
            lock,
            answered: 0,
            gathering: Duration::ZERO,
        };
        let thread = std::thread::Builder::new()
            .name("state-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| StateError::Unavailable(format!("cannot start the writer's thread: {error}")))?;
        let readers = Arc::new(Readers::new(dir.clone(), readers));
        Ok(Arc::new(Self { dir, threshold, jobs, leases, health, readers, writer: Mutex::new(Some(thread)) }))
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Hands an operation to the writer and waits until it is durable.
    async fn write<W: Write>(&self, write: W) -> Result<W::Output, StateError> {
        self.health.check()?;
        let (reply, answer) = oneshot::channel();
        let job = Message::Job(Box::new(Job { write, reply }));
        self.jobs.send(job).map_err(|_| self.health.reason())?;
        answer.await.unwrap_or_else(|_| Err(self.health.reason()))
    }

    /// Runs a read.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&rusqlite::Connection) -> fault::Written<T> + Send + 'static,
    ) -> Result<T, StateError> {
        self.health.check()?;
        self.readers.read(read).await
    }

    fn stop(&self) -> Option<JoinHandle<()>> {
        self.health.close();
        // The writer is gone already when this fails.
        let _ = self.jobs.send(Message::Close);
        self.readers.close();
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for SqliteState {
    fn drop(&mut self) {
        // Waits, so that whoever opens the directory next finds it free and at rest.
        if let Some(writer) = self.stop()
            && writer.join().is_err()
        {
            tracing::error!("the writer's thread panicked");
        }
    }
}

#[async_trait]
impl State for SqliteState {
    async fn submit(&self, task: NewTask) -> Result<Submitted, StateError> {
        self.write(ops::Submit(ops::NewRow::encode(task, self.threshold)?)).await
    }

    async fn claim(&self, claim: Claim) -> Result<Option<Claimed>, StateError> {
        self.write(ops::ClaimTask(claim)).await?.map(ops::RawClaimed::decode).transpose()
    }

    async fn renew(&self, worker: WorkerId, leases: Vec<Lease>) -> Result<Renewed, StateError> {
        self.health.check()?;
        Ok(self.leases.renew(worker, leases))
    }

    async fn append(&self, lease: Lease, steps: Vec<NewStep>) -> Result<(), StateError> {
        let steps = EncodedStep::encode_all(&steps, self.threshold)?;
        self.write(ops::Append { lease, steps }).await
    }

    async fn reserve(&self, lease: Lease, steps: Vec<NewStep>, reserve: Reserve) -> Result<Reserved, StateError> {
        let unpaid = self.leases.get(lease).is_some_and(|held| held.payer.is_none());
        if unpaid && steps.is_empty() {
            self.health.check()?;
            return Ok(Reserved::Granted { warnings: Vec::new() });
        }
        let steps = EncodedStep::encode_all(&steps, self.threshold)?;
        self.write(ops::ReserveCall { lease, steps, reserve }).await
    }

    async fn settle(&self, lease: Lease, id: ReserveId, spent: Amount) -> Result<(), StateError> {
        self.health.check()?;
        let open = self.leases.get(lease).is_some_and(|held| held.reserved > 0);
        match id {
            ReserveId::Model { seq } if open => self.write(ops::Settle { lease, seq, spent }).await,
            _ => Ok(()),
        }
    }

    async fn budget(
        &self,
        namespace: &Namespace,
        task: TaskId,
        now: Timestamp,
    ) -> Result<Vec<BudgetLevel>, StateError> {
        let namespace = namespace.clone();
        self.read(move |conn| accounts::levels(conn, &namespace, task, now)).await
    }

    async fn accounts(&self, namespace: &Namespace, now: Timestamp) -> Result<Vec<AccountView>, StateError> {
        let namespace = namespace.clone();
        self.read(move |conn| accounts::list(conn, &namespace, now)).await
    }

    async fn gate(&self, namespace: &Namespace, task: TaskId, now: Timestamp) -> Result<Option<GateWait>, StateError> {
        self.health.check()?;
        Ok(self.leases.gates().wait(namespace, task, now.timestamp_micros()))
    }

    async fn put_artifact(&self, lease: Lease, artifact: Artifact) -> Result<(), StateError> {
        self.write(ops::PutArtifact { lease, artifact }).await
    }

    async fn artifacts(&self, namespace: &Namespace, task: TaskId) -> Result<Vec<Artifact>, StateError> {
        let namespace = namespace.clone();
        self.read(move |conn| ops::artifacts::list(conn, &namespace, task)).await
    }

    async fn referenced(&self, digests: Vec<[u8; 32]>) -> Result<Vec<bool>, StateError> {
        self.read(move |conn| ops::artifacts::referenced(conn, &digests)).await
    }

    async fn park(&self, lease: Lease, park: Park) -> Result<Transition, StateError> {
        self.write(ops::ParkTask::encode(lease, park, self.threshold)?).await
    }

    async fn finish(&self, lease: Lease, finish: Finish) -> Result<Transition, StateError> {
        self.write(ops::FinishTask::encode(lease, finish, self.threshold)?).await
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
        self.health.check()?;
        Ok(self.leases.list())
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
        let namespace = namespace.clone();
        self.read(move |conn| read::task(conn, &namespace, task)).await
    }

    async fn answer(&self, namespace: &Namespace, task: TaskId) -> Result<Option<Value>, StateError> {
        let namespace = namespace.clone();
        self.read(move |conn| read::answer(conn, &namespace, task)).await
    }

    async fn task_with_answer(
        &self,
        namespace: &Namespace,
        task: TaskId,
    ) -> Result<Option<(Task, Option<Value>)>, StateError> {
        let namespace = namespace.clone();
        self.read(move |conn| read::task_with_answer(conn, &namespace, task)).await
    }

    async fn tasks(
        &self,
        namespace: &Namespace,
        filter: TaskFilter,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Page<Task>, StateError> {
        let namespace = namespace.clone();
        self.read(move |conn| read::tasks(conn, &namespace, &filter, after, limit)).await
    }

    async fn journal(
        &self,
        namespace: &Namespace,
        task: TaskId,
        from: u32,
        limit: u32,
    ) -> Result<Vec<Step>, StateError> {
        let namespace = namespace.clone();
        self.read(move |conn| read::journal(conn, &namespace, task, from, limit)).await
    }

    async fn threads(
        &self,
        namespace: &Namespace,
        after: Option<ThreadId>,
        limit: u32,
    ) -> Result<Page<Thread>, StateError> {
        let namespace = namespace.clone();
        self.read(move |conn| read::threads(conn, &namespace, after, limit)).await
    }

    async fn thread_messages(
        &self,
        namespace: &Namespace,
        thread: ThreadId,
        after: u64,
        limit: u32,
    ) -> Result<Option<Vec<ThreadMessage>>, StateError> {
        let namespace = namespace.clone();
        self.read(move |conn| read::thread_messages(conn, &namespace, thread, after, limit)).await
    }

    async fn value(
        &self,
        namespace: &Namespace,
        scope: &str,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<StateValue>, StateError> {
        let (namespace, scope, key) = (namespace.clone(), scope.to_owned(), key.to_owned());
        self.read(move |conn| read::value(conn, &namespace, &scope, &key, now)).await
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
        let (namespace, scope, after) = (namespace.clone(), scope.to_owned(), after.map(str::to_owned));
        self.read(move |conn| read::values(conn, &namespace, &scope, after.as_deref(), limit, now)).await
    }

    async fn stats(&self, namespace: Option<&Namespace>) -> Result<StateStats, StateError> {
        let namespace = namespace.cloned();
        let dir = self.dir.clone();
        self.read(move |conn| {
            let mut stats = read::stats(conn, namespace.as_ref())?;
            stats.bytes = schema::bytes_on_disk(&dir);
            Ok(stats)
        })
        .await
    }

    async fn ping(&self) -> Result<(), StateError> {
        self.read(read::ping).await
    }

    async fn close(&self) {
        let Some(writer) = self.stop() else { return };
        if !matches!(tokio::task::spawn_blocking(move || writer.join()).await, Ok(Ok(()))) {
            tracing::error!("the writer's thread panicked");
        }
    }
}
