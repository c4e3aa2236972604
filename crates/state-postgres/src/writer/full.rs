//! The full lane: operations of any kind, one after another, in one transaction a batch.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::Clock;
use sqlx::pool::PoolConnection;
use sqlx::{Executor as _, Postgres};
use state::StateError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::outcome::Failed;
use super::{Job, Write};
use crate::books::SharedBooks;
use crate::fault::{Fault, Verdict, state_error, verdict};
use crate::pool::Pools;
use crate::ready::Readiness;
use crate::retry::pauses;
use crate::tx::Tx;

/// The most operations of one commit: bounds how long the first one waits.
const BATCH_MAX: usize = 64;

/// A `Job` of any type.
#[async_trait]
pub(super) trait AnyJob: Send {
    /// Tells whether it concerns more than a row of its own.
    fn locks_books(&self) -> bool;
    /// Does it. An error means that the whole transaction must be taken back; a refusal is kept as the answer.
    async fn run(&mut self, tx: &mut Tx<'_>, how: How) -> Result<Ran, sqlx::Error>;
    /// Answers after the commit, or with why there was none.
    fn answer(self: Box<Self>, failed: Option<StateError>);
}

/// How an operation is run.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    /// The transaction has no other operation, so it needs no savepoint.
    alone: bool,
    /// An earlier commit may have done it already.
    again: bool,
}

/// What an operation left in the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ran {
    /// What it wrote is to be committed.
    Keep,
    /// It was refused when it was alone: nothing is to be committed.
    Drop,
}

#[async_trait]
impl<W: Write> AnyJob for Job<W> {
    fn locks_books(&self) -> bool {
        self.write.locks_books()
    }

    async fn run(&mut self, tx: &mut Tx<'_>, how: How) -> Result<Ran, sqlx::Error> {
        let saved = !how.alone && self.write.guarded();
        let mark = tx.books.mark();
        if saved {
            tx.conn.execute("SAVEPOINT operation").await?;
        }
        let before = if how.again { self.write.done_before(tx).await } else { Ok(None) };
        let applied = match before {
            Ok(Some(output)) => Ok(output),
            Ok(None) => self.write.apply(tx).await,
            Err(fault) => Err(fault),
        };
        let error = match applied {
            Ok(output) => {
                if saved {
                    tx.conn.execute("RELEASE operation").await?;
                }
                self.result = Some(Ok(output));
                return Ok(Ran::Keep);
            }
            Err(Fault::Refused(error)) => error,
            Err(Fault::Sql(error)) if saved && verdict(&error) == Verdict::Refused => state_error(&error),
            Err(Fault::Sql(error)) => return Err(error),
        };
        self.result = Some(Err(error));
        if saved {
            tx.conn.execute("ROLLBACK TO operation; RELEASE operation").await?;
            if let Err(Fault::Sql(error)) = tx.books.undo(tx.conn, mark).await {
                return Err(error);
            }
        }
        Ok(if how.alone { Ran::Drop } else { Ran::Keep })
    }

    fn answer(self: Box<Self>, failed: Option<StateError>) {
        let result = match (failed, self.result) {
            (Some(error), _) => Err(error),
            (None, Some(result)) => result,
            (None, None) => Err(StateError::Closed),
        };
        // Nobody listens any more when the caller was dropped; what it asked for is done all the same.
        let _ = self.reply.send(result);
    }
}

/// What the lane is sent: an operation, and whether an earlier commit may have done it already.
type Message = (Box<dyn AnyJob>, bool);

/// The way into the full lane.
pub(crate) struct FullLane {
    jobs: Mutex<Option<UnboundedSender<Message>>>,
    tasks: TaskTracker,
}

impl FullLane {
    /// Starts the lane.
    pub(crate) fn start(
        pools: Arc<Pools>,
        ready: Arc<Readiness>,
        books: SharedBooks,
        clock: Arc<dyn Clock>,
        threshold: usize,
    ) -> Arc<Self> {
        let (jobs, queue) = unbounded_channel();
        let lane = Lane { pools, ready, clock, threshold, books, conn: None, queue };
        let tasks = TaskTracker::new();
        tasks.spawn(lane.run());
        tasks.close();
        Arc::new(Self { jobs: Mutex::new(Some(jobs)), tasks })
    }

    /// Hands in an operation and waits until it is durable.
    pub(crate) async fn write<W: Write>(&self, write: W) -> Result<W::Output, StateError> {
        let (reply, answer) = oneshot::channel();
        self.hand_over(write, reply, false);
        answer.await.unwrap_or(Err(StateError::Closed))
    }

    /// Hands in an operation for somebody else; `again` says that an earlier commit may have done it already.
    pub(super) fn hand_over<W: Write>(
        &self,
        write: W,
        reply: oneshot::Sender<Result<W::Output, StateError>>,
        again: bool,
    ) {
        let job: Box<dyn AnyJob> = Box::new(Job { write, reply, result: None });
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = match jobs.as_ref() {
            Some(jobs) => jobs.send((job, again)).err().map(|refused| refused.0.0),
            None => Some(job),
        };
        if let Some(job) = refused {
            job.answer(Some(StateError::Closed));
        }
    }

    /// Takes no more operations; those that were handed in are done.
    pub(crate) fn close(&self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Waits until all that was handed in is done.
    pub(crate) async fn stopped(&self) {
        self.tasks.wait().await;
    }
}

struct Lane {
    pools: Arc<Pools>,
    ready: Arc<Readiness>,
    clock: Arc<dyn Clock>,
    threshold: usize,
    books: SharedBooks,
    conn: Option<PoolConnection<Postgres>>,
    queue: UnboundedReceiver<Message>,
}

impl Lane {
    async fn run(mut self) {
        while let Some(first) = self.queue.recv().await {
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX
                && let Ok(next) = self.queue.try_recv()
            {
                batch.push(next);
            }
            let span = tracing::debug_span!("db.state.commit", lane = "full", operations = batch.len());
            self.settle(batch).instrument(span).await;
            self.pools.report();
        }
    }

    /// Commits and answers a batch: as a whole, and when that does not succeed, one operation after another.
    async fn settle(&mut self, batch: Vec<Message>) {
        let mut again = batch.iter().any(|(_, again)| *again);
        let mut rest = vec![batch.into_iter().map(|(job, _)| job).collect::<Vec<_>>()];
        while let Some(mut batch) = rest.pop() {
            match self.persist(&mut batch, &mut again).await {
                Ok(()) => {
                    for job in batch {
                        job.answer(None);
                    }
                }
                // Nobody can say which of them was to blame: the others must not fail with it.
                Err(Failed::Refused(_) | Failed::Contended(_)) if batch.len() > 1 => {
                    rest.extend(batch.into_iter().rev().map(|job| vec![job]));
                }
                Err(Failed::Refused(error) | Failed::Contended(error)) => {
                    for job in batch {
                        job.answer(Some(error.clone()));
                    }
                }
                Err(Failed::Unreachable(error)) => {
                    // Whoever waits has waited long enough.
                    let waiting = std::iter::from_fn(|| self.queue.try_recv().ok()).map(|(job, _)| job);
                    let all = batch.into_iter().chain(rest.drain(..).flatten()).chain(waiting);
                    all.for_each(|job| job.answer(Some(error.clone())));
                }
            }
        }
    }

    /// Tries to commit a batch, several times if others are in the way or connections are lost.
    async fn persist(&mut self, batch: &mut [Box<dyn AnyJob>], again: &mut bool) -> Result<(), Failed> {
        let mut pauses = pauses();
        loop {
            let (error, committing) = match self.attempt(batch, *again).await {
                Ok(()) => return Ok(()),
                Err(Interrupted { error: None, why, .. }) => return Err(Failed::Unreachable(why)),
                Err(Interrupted { error: Some(error), committing, .. }) => (error, committing),
            };
            let judged = verdict(&error);
            self.clean(judged).await;
            *again |= committing && judged == Verdict::Lost;
            let reason = match judged {
                Verdict::Contended(reason) => reason,
                Verdict::Lost => "connection",
                Verdict::Refused => return Err(Failed::Refused(state_error(&error))),
            };
            metrics::counter!("state_retries_total", "reason" => reason).increment(1);
            let Some(pause) = pauses.next() else {
                tracing::warn!(%error, reason, operations = batch.len(), "a batch could not be committed");
                return Err(match judged {
                    Verdict::Lost => Failed::Unreachable(state_error(&error)),
                    _ => Failed::Contended(state_error(&error)),
                });
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&mut self, batch: &mut [Box<dyn AnyJob>], again: bool) -> Result<(), Interrupted> {
        if self.conn.is_none() {
            self.ready.check().map_err(Interrupted::unreachable)?;
            self.conn = Some(self.pools.lane().await.map_err(Interrupted::unreachable)?);
        }
        let Some(conn) = self.conn.as_deref_mut() else { return Ok(()) };
        let start = self.clock.monotonic();
        conn.execute(self.pools.begin_write()).await?;
        // Dropped without a commit, they count as taken back.
        let mut books = self.books.books();
        if batch.iter().any(|job| job.locks_books()) {
            books.lock(conn).await?;
        }
        let how = How { alone: batch.len() == 1, again };
        let mut tx = Tx { conn: &mut *conn, books: &mut books, clock: self.clock.as_ref(), threshold: self.threshold };
        for job in batch.iter_mut() {
            if job.run(&mut tx, how).await? == Ran::Drop {
                conn.execute("ROLLBACK").await?;
                return Ok(());
            }
        }
        books.record(conn).await?;
        conn.execute("COMMIT").await.map_err(|error| Interrupted { committing: true, ..error.into() })?;
        books.committed();
        record("full", batch.len(), self.clock.monotonic().saturating_sub(start));
        Ok(())
    }

    /// Leaves the connection without a transaction, or leaves it to its end.
    async fn clean(&mut self, judged: Verdict) {
        let Some(mut conn) = self.conn.take() else { return };
        if judged != Verdict::Lost && conn.execute("ROLLBACK").await.is_ok() {
            self.conn = Some(conn);
        } else {
            // Closing says goodbye to a server that may not listen: it must not keep the lane.
            drop(conn.detach());
        }
    }
}

/// Counts a commit.
pub(super) fn record(lane: &'static str, operations: usize, took: Duration) {
    metrics::counter!("state_commits_total", "lane" => lane).increment(1);
    metrics::histogram!("state_commit_operations", "lane" => lane).record(operations as f64);
    metrics::histogram!("state_commit_seconds", "lane" => lane).record(took.as_secs_f64());
}

/// Why a transaction did not come to its end.
struct Interrupted {
    /// What the server or the way to it said; none when there was no connection.
    error: Option<sqlx::Error>,
    why: StateError,
    /// It was lost while the commit was under way, so nobody knows whether it happened.
    committing: bool,
}

impl Interrupted {
    fn unreachable(why: StateError) -> Self {
        Self { error: None, why, committing: false }
    }
}

impl From<sqlx::Error> for Interrupted {
    fn from(error: sqlx::Error) -> Self {
        Self { why: StateError::Closed, error: Some(error), committing: false }
    }
}

impl From<Fault> for Interrupted {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Sql(error) => error.into(),
            Fault::Refused(why) => Self::unreachable(why),
        }
    }
}
