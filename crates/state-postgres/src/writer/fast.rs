//! The fast lanes: batches of what every task does, in set-based statements; several batches may be under way at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::Clock;
use sqlx::pool::PoolConnection;
use sqlx::{Executor as _, PgConnection, Postgres};
use state::{Claim, Reserved, StateError, Submitted, Transition};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::full::{FullLane, record};
use super::plan::{Answer, Plan};
use crate::fault::{Fault, Verdict, Written, verdict};
use crate::ops::{Append, ClaimTask, FinishTask, NewRow, RawClaimed, ReserveCall, Submit};
use crate::pool::{FAST_LANES, Pools};
use crate::ready::Readiness;

/// The most operations of one commit: bounds how long the first one waits.
const BATCH_MAX: usize = 512;
/// The least operations of a commit beside another one that is under way.
const BATCH_BESIDE: usize = 32;
/// A commit that takes longer than this holds up no other, however few wait.
const SLOW: Duration = Duration::from_millis(20);

type Reply<T> = oneshot::Sender<Result<T, StateError>>;

/// An operation that is plain as a rule, with the one who waits for it.
pub(crate) enum FastJob {
    Submit { row: Box<NewRow>, reply: Reply<Submitted> },
    Claim { claim: Claim, reply: Reply<Option<RawClaimed>> },
    Append { append: Append, reply: Reply<()> },
    Reserve { call: Box<ReserveCall>, reply: Reply<Reserved> },
    Finish { finish: Box<FinishTask>, reply: Reply<Transition> },
}

impl FastJob {
    /// Gives it to the lane that knows all rules; `again` says that a commit may have done it already.
    fn hand_over(self, full: &FullLane, again: bool) {
        match self {
            Self::Submit { row, reply } => full.hand_over(Submit(*row), reply, again),
            Self::Claim { claim, reply } => full.hand_over(ClaimTask(claim), reply, again),
            Self::Append { append, reply } => full.hand_over(append, reply, again),
            Self::Reserve { call, reply } => full.hand_over(*call, reply, again),
            Self::Finish { finish, reply } => full.hand_over(*finish, reply, again),
        }
    }

    /// Answers what was committed. Nobody listens any more when the caller was dropped; what it asked for is done.
    fn answer(self, answer: Answer) {
        match (self, answer) {
            (Self::Submit { row, reply }, Answer::Done) => {
                let _ = reply.send(Ok(Submitted { task: row.to_task(), created: true }));
            }
            (Self::Claim { reply, .. }, Answer::Claimed(claimed)) => {
                let _ = reply.send(Ok(claimed.map(|claimed| *claimed)));
            }
            (Self::Append { reply, .. }, Answer::Done) => {
                let _ = reply.send(Ok(()));
            }
            (Self::Reserve { reply, .. }, Answer::Done) => {
                let _ = reply.send(Ok(Reserved::Granted { warnings: Vec::new() }));
            }
            (Self::Finish { finish, reply }, Answer::Done) => {
                let ended = vec![(finish.lease.task, finish.status)];
                let _ = reply.send(Ok(Transition { ended, ..Transition::default() }));
            }
            // A plan answers each operation in its own kind; a dropped reply tells the caller that there is none.
            _ => {}
        }
    }
}

/// What waits for a lane.
#[derive(Default)]
struct Queue {
    jobs: VecDeque<FastJob>,
    /// How many batches are under way.
    batches: usize,
    /// When the last one began.
    begun: Option<Instant>,
    closed: bool,
}

impl Queue {
    /// A lane that is alone takes whatever there is; another one begins beside it only with so much that the two commits
    /// cost less than they save, or when the first one is slow.
    fn is_worth_a_batch(&self) -> bool {
        let beside = self.begun.is_some_and(|begun| begun.elapsed() < SLOW);
        self.jobs.len() >= if self.batches > 0 && beside { BATCH_BESIDE } else { 1 }
    }
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Wakes one lane.
    work: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for work and takes all of it, up to a batch; none when the lanes are closed and all is done.
    async fn take(&self) -> Option<Vec<FastJob>> {
        loop {
            let some_wait = {
                let mut queue = self.lock();
                if queue.is_worth_a_batch() {
                    let count = queue.jobs.len().min(BATCH_MAX);
                    let batch = queue.jobs.drain(..count).collect();
                    queue.batches += 1;
                    queue.begun = Some(Instant::now());
                    if !queue.jobs.is_empty() {
                        self.work.notify_one();
                    }
                    return Some(batch);
                }
                if queue.closed && queue.jobs.is_empty() {
                    // The other lanes must hear of it, too.
                    self.work.notify_one();
                    return None;
                }
                !queue.jobs.is_empty()
            };
            if some_wait {
                let _ = tokio::time::timeout(SLOW, self.work.notified()).await;
            } else {
                self.work.notified().await;
            }
        }
    }
}

/// A batch that was taken and is not settled yet.
struct UnderWay(Arc<Shared>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.lock().batches -= 1;
        // Whoever settled it looks for more by itself, unless it died of it.
        if std::thread::panicking() {
            self.0.work.notify_one();
        }
    }
}

/// The way into the fast lanes.
pub(crate) struct FastLanes {
    shared: Arc<Shared>,
    tasks: TaskTracker,
}

impl FastLanes {
    /// Starts the lanes.
    pub(crate) fn start(
        pools: &Arc<Pools>,
        ready: &Arc<Readiness>,
        full: &Arc<FullLane>,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let tasks = TaskTracker::new();
        for _ in 0..FAST_LANES {
            let lane = Lane {
                shared: Arc::clone(&shared),
                pools: Arc::clone(pools),
                ready: Arc::clone(ready),
                full: Arc::clone(full),
                clock: Arc::clone(clock),
                conn: None,
            };
            tasks.spawn(lane.run());
        }
        tasks.close();
        Self { shared, tasks }
    }

    /// Hands in an operation and waits until it is durable.
    pub(crate) async fn run<T>(&self, job: impl FnOnce(Reply<T>) -> FastJob) -> Result<T, StateError> {
        let (reply, answer) = oneshot::channel();
        let worth_it = {
            let mut queue = self.shared.lock();
            if queue.closed {
                return Err(StateError::Closed);
            }
            queue.jobs.push_back(job(reply));
            // The first one wakes a lane that is idle, so that it looks after those that wait for a slow commit.
            queue.jobs.len() == 1 || queue.is_worth_a_batch()
        };
        if worth_it {
            self.shared.work.notify_one();
        }
        answer.await.unwrap_or(Err(StateError::Closed))
    }

    /// Takes no more operations; those that were handed in are done.
    pub(crate) fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_one();
    }

    /// Waits until all that was handed in is done, or handed over.
    pub(crate) async fn stopped(&self) {
        self.tasks.wait().await;
    }
}

struct Lane {
    shared: Arc<Shared>,
    pools: Arc<Pools>,
    ready: Arc<Readiness>,
    full: Arc<FullLane>,
    clock: Arc<dyn Clock>,
    conn: Option<PoolConnection<Postgres>>,
}

/// Why a batch goes to the full lane as a whole.
struct Interrupted {
    fault: Fault,
    /// It was lost while the commit was under way, so nobody knows whether it happened.
    committing: bool,
}

impl From<Fault> for Interrupted {
    fn from(fault: Fault) -> Self {
        Self { fault, committing: false }
    }
}

impl From<sqlx::Error> for Interrupted {
    fn from(error: sqlx::Error) -> Self {
        Fault::Sql(error).into()
    }
}

impl Lane {
    async fn run(mut self) {
        while let Some(batch) = self.shared.take().await {
            let span = tracing::debug_span!("db.state.commit", lane = "fast", operations = batch.len());
            let under_way = UnderWay(Arc::clone(&self.shared));
            self.settle(batch).instrument(span).await;
            drop(under_way);
            self.pools.report();
        }
    }

    /// Commits and answers what is plain of a batch, and hands over the rest: all of it when the batch did not succeed.
    async fn settle(&mut self, batch: Vec<FastJob>) {
        match self.attempt(&batch).await {
            Ok(answers) => {
                for (job, answer) in batch.into_iter().zip(answers) {
                    match answer {
                        Some(answer) => job.answer(answer),
                        None => job.hand_over(&self.full, false),
                    }
                }
            }
            Err(Interrupted { fault, committing }) => {
                let judged = match &fault {
                    Fault::Sql(error) => Some(verdict(error)),
                    Fault::Refused(_) => None,
                };
                self.clean(judged).await;
                let again = committing && judged == Some(Verdict::Lost);
                let reason = match judged {
                    Some(Verdict::Contended(reason)) => reason,
                    Some(Verdict::Lost) => "connection",
                    Some(Verdict::Refused) | None => "refused",
                };
                metrics::counter!("state_retries_total", "reason" => reason).increment(1);
                tracing::debug!(error = %fault.into_error(), "a fast batch goes the long way");
                for job in batch {
                    job.hand_over(&self.full, again);
                }
            }
        }
    }

    async fn attempt(&mut self, batch: &[FastJob]) -> Result<Vec<Option<Answer>>, Interrupted> {
        if self.conn.is_none() {
            self.ready.check().map_err(Fault::Refused)?;
            self.conn = Some(self.pools.lane().await.map_err(Fault::Refused)?);
        }
        let Some(conn) = self.conn.as_deref_mut() else { return Ok(Vec::new()) };
        let start = self.clock.monotonic();
        conn.execute(self.pools.begin_write()).await?;
        let answers = apply(conn, batch).await?;
        let plain = answers.iter().flatten().count();
        conn.execute("COMMIT").await.map_err(|error| Interrupted { committing: true, ..error.into() })?;
        record("fast", plain, self.clock.monotonic().saturating_sub(start));
        Ok(answers)
    }

    /// Leaves the connection without a transaction, or leaves it to its end.
    async fn clean(&mut self, judged: Option<Verdict>) {
        let Some(mut conn) = self.conn.take() else { return };
        if judged != Some(Verdict::Lost) && conn.execute("ROLLBACK").await.is_ok() {
            self.conn = Some(conn);
        } else {
            // Closing says goodbye to a server that may not listen: it must not keep the lane.
            drop(conn.detach());
        }
    }
}

/// Does what is plain; the others have no answer.
async fn apply(conn: &mut PgConnection, batch: &[FastJob]) -> Written<Vec<Option<Answer>>> {
    let mut plan = Plan::new(batch);
    plan.look(conn).await?;
    plan.decide();
    plan.write(conn).await?;
    Ok(plan.answers)
}
