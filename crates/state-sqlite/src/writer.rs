//! Group commit: one thread owns the connection that writes. What arrives while a commit is under way forms the next
//! batch, and a batch is one transaction with one sync of the disk.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use domain::Clock;
use rusqlite::Connection;
use state::StateError;
use tokio::sync::oneshot;

use crate::checkpoint::Checkpoints;
use crate::fault::{Written, is_fatal, state_error};
use crate::health::Health;
use crate::leases::Leases;
use crate::lock::DirectoryLock;
use crate::recovery;
use crate::tx::Tx;

/// The most operations of one commit: bounds how long the first one waits.
const BATCH_MAX: usize = 1_024;

/// The longest wait for the callers of the last commit.
const LONGEST_GATHERING: Duration = Duration::from_millis(1);

/// One operation that writes.
pub(crate) trait Write: Send + 'static {
    /// What it answers.
    type Output: Send + 'static;

    /// Nobody waits until it is durable: it is answered when it is applied.
    const LAZY: bool = false;

    /// Tells whether it may be refused after it has written something, which is then undone.
    fn guarded(&self, _tx: &Tx<'_>) -> bool {
        true
    }

    /// Does it, inside the open transaction.
    fn apply(self, tx: &Tx<'_>) -> Written<Self::Output>;
}

/// What the writer's thread is sent.
pub(crate) enum Message {
    /// Do this.
    Job(Box<dyn AnyJob>),
    /// Commit what came before, and stop.
    Close,
}

/// An operation with the one who waits for it.
pub(crate) struct Job<W: Write> {
    pub(crate) write: W,
    pub(crate) reply: oneshot::Sender<Result<W::Output, StateError>>,
}

/// A `Job` of any type.
pub(crate) trait AnyJob: Send {
    /// Does it.
    fn run(self: Box<Self>, tx: &Tx<'_>) -> Ran;
    /// Answers that it was not done.
    fn refuse(self: Box<Self>, error: StateError);
}

/// What running an operation left behind.
pub(crate) struct Ran {
    /// The answer to give after the commit; none when it was given already.
    answer: Option<Box<dyn Answer>>,
    /// Why the transaction can no longer be committed.
    broken: Option<StateError>,
    /// The files can no longer be trusted.
    fatal: bool,
}

/// An answer that waits for the commit.
pub(crate) trait Answer: Send {
    fn give(self: Box<Self>, failed: Option<&StateError>);
}

struct Pending<T> {
    result: Result<T, StateError>,
    reply: oneshot::Sender<Result<T, StateError>>,
}

impl<T: Send> Answer for Pending<T> {
    fn give(self: Box<Self>, failed: Option<&StateError>) {
        let Self { result, reply } = *self;
        // Nobody listens any more when the caller was dropped; what it asked for is done all the same.
        let _ = reply.send(match failed {
            Some(error) if result.is_ok() => Err(error.clone()),
            _ => result,
        });
    }
}

impl<W: Write> AnyJob for Job<W> {
    fn run(self: Box<Self>, tx: &Tx<'_>) -> Ran {
        let Self { write, reply } = *self;
        let changes = tx.conn.total_changes();
        let guarded = write.guarded(tx);
        let applied =
            if guarded { tx.execute("SAVEPOINT operation", []).and_then(|_| write.apply(tx)) } else { write.apply(tx) };
        let applied = match applied {
            Ok(output) if guarded => tx.execute("RELEASE operation", []).map(|_| output),
            other => other,
        };
        match applied {
            Ok(output) if W::LAZY => {
                let _ = reply.send(Ok(output));
                Ran { answer: None, broken: None, fatal: false }
            }
            Ok(output) => {
                Ran { answer: Some(Box::new(Pending { result: Ok(output), reply })), broken: None, fatal: false }
            }
            Err(fault) => {
                let fatal = fault.is_fatal();
                let untouched = tx.conn.total_changes() == changes;
                let undone = !tx.conn.is_autocommit() && (if guarded { undo(tx, untouched) } else { untouched });
                let error = fault.into_error();
                let broken = (!undone).then(|| error.clone());
                Ran { answer: Some(Box::new(Pending::<W::Output> { result: Err(error), reply })), broken, fatal }
            }
        }
    }

    fn refuse(self: Box<Self>, error: StateError) {
        let _ = self.reply.send(Err(error));
    }
}

/// Takes back what one operation wrote, and what the leases in memory followed.
fn undo(tx: &Tx<'_>, untouched: bool) -> bool {
    let back = tx.execute("ROLLBACK TO operation", []).and_then(|_| tx.execute("RELEASE operation", []));
    back.is_ok() && (untouched || recovery::reload_leases(tx).is_ok())
}

/// The thread that writes.
pub(crate) struct Writer {
    pub(crate) conn: Connection,
    pub(crate) leases: Arc<Leases>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) threshold: usize,
    pub(crate) commit_delay: Duration,
    pub(crate) health: Arc<Health>,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) jobs: Receiver<Message>,
    pub(crate) dir: PathBuf,
    pub(crate) lock: DirectoryLock,
    /// How many callers the last commit answered.
    pub(crate) answered: usize,
    /// How long to wait for them to come back: half of what the last commit took.
    pub(crate) gathering: Duration,
}

impl Writer {
    /// Works until the store is closed or dropped.
    pub(crate) fn run(mut self) {
        while let Ok(Message::Job(first)) = self.jobs.recv() {
            if self.batch(first).is_break() {
                break;
            }
            self.checkpoints.make_room(&self.conn);
        }
        let Self { conn, checkpoints, dir, lock, jobs, .. } = self;
        drop(jobs);
        checkpoints.stop();
        if let Err(error) = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            tracing::warn!(%error, dir = %dir.display(), "the last checkpoint failed; the next start makes up for it");
        }
        drop(conn);
        // Last: whoever gets the lock next finds the files at rest.
        drop(lock);
    }

    fn batch(&mut self, first: Box<dyn AnyJob>) -> ControlFlow<()> {
        if let Err(error) = self.health.check() {
            first.refuse(error);
            return ControlFlow::Continue(());
        }
        if let Err(error) = self.execute("BEGIN IMMEDIATE") {
            self.judge(&error);
            first.refuse(state_error(&error));
            return ControlFlow::Continue(());
        }
        let mut batch = Batch::default();
        let flow = self.fill(first, &mut batch);
        let outcome = match batch.broken.take() {
            Some(reason) => Err(self.roll_back(&reason)),
            None => self.commit(&batch),
        };
        self.answered = batch.answers.len();
        for answer in batch.answers {
            answer.give(outcome.as_ref().err());
        }
        flow
    }

    /// Applies all that waits. Then stays open a little: when nobody waits for what was applied, for the first who does;
    /// and for those whom the last commit answered, because they come back one by one, and the first of them alone would
    /// cost all the others a commit.
    fn fill(&self, first: Box<dyn AnyJob>, batch: &mut Batch) -> ControlFlow<()> {
        let tx = Tx { conn: &self.conn, leases: &self.leases, clock: self.clock.as_ref(), threshold: self.threshold };
        let before = self.conn.total_changes();
        let (mut idle_since, mut gathering_since) = (None, None);
        let mut next = Some(Message::Job(first));
        loop {
            match next.take() {
                Some(Message::Job(job)) => {
                    let ran = job.run(&tx);
                    batch.operations += 1;
                    batch.answers.extend(ran.answer);
                    if ran.fatal {
                        self.health.poison();
                    }
                    if ran.broken.is_some() {
                        batch.broken = ran.broken;
                        return ControlFlow::Continue(());
                    }
                }
                Some(Message::Close) => return ControlFlow::Break(()),
                None => {}
            }
            if batch.operations >= BATCH_MAX {
                return ControlFlow::Continue(());
            }
            next = self.jobs.try_recv().ok();
            if next.is_some() {
                continue;
            }
            let waiters = batch.answers.len();
            let (since, patience) = if waiters == 0 && self.conn.total_changes() != before {
                (&mut idle_since, self.commit_delay)
            } else if waiters > 0 && waiters < self.answered {
                (&mut gathering_since, self.gathering)
            } else {
                return ControlFlow::Continue(());
            };
            let now = self.clock.monotonic();
            let waited = now.saturating_sub(*since.get_or_insert(now));
            match self.jobs.recv_timeout(patience.saturating_sub(waited)) {
                Ok(message) => next = Some(message),
                Err(RecvTimeoutError::Timeout) => return ControlFlow::Continue(()),
                Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(()),
            }
        }
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StateError> {
        let start = self.clock.monotonic();
        if let Err(error) = self.execute("COMMIT") {
            self.judge(&error);
            return Err(self.roll_back(&state_error(&error)));
        }
        let took = self.clock.monotonic().saturating_sub(start);
        self.gathering = (took / 2).min(LONGEST_GATHERING);
        metrics::counter!("state_commits_total").increment(1);
        metrics::histogram!("state_commit_operations").record(batch.operations as f64);
        metrics::histogram!("state_commit_seconds").record(took.as_secs_f64());
        self.checkpoints.committed(batch.operations);
        Ok(())
    }

    /// Takes the whole batch back; its callers try again.
    fn roll_back(&self, reason: &StateError) -> StateError {
        if !self.conn.is_autocommit()
            && let Err(error) = self.execute("ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be taken back");
            self.health.poison();
        }
        let tx = Tx { conn: &self.conn, leases: &self.leases, clock: self.clock.as_ref(), threshold: self.threshold };
        if let Err(fault) = recovery::reload_leases(&tx) {
            tracing::error!(error = %fault.into_error(), "the leases could not be read again");
            self.health.poison();
        }
        match (self.health.check(), reason) {
            (Err(error), _) => error,
            (Ok(()), StateError::Unavailable(_)) => reason.clone(),
            (Ok(()), _) => StateError::Unavailable("another write of the same transaction failed".to_owned()),
        }
    }

    fn judge(&self, error: &rusqlite::Error) {
        tracing::error!(%error, "a transaction failed");
        if is_fatal(error) {
            self.health.poison();
        }
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.conn.prepare_cached(sql)?.execute([])?;
        Ok(())
    }
}

#[derive(Default)]
struct Batch {
    answers: Vec<Box<dyn Answer>>,
    operations: usize,
    broken: Option<StateError>,
}
