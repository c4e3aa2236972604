//! Connections, by what they are for: writes and renewals never wait behind reads.

use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Executor as _, PgPool, Postgres};
use state::StateError;

use crate::fault::{Fault, Verdict, Written, state_error, verdict};
use crate::options::PostgresOptions;

/// Connections that write: the fast lanes' and the full lane's.
pub(crate) const LANES: u32 = FAST_LANES as u32 + 1;
/// How many fast batches may be under way at once.
pub(crate) const FAST_LANES: usize = 2;
/// How often work is tried on another connection; as many may be dead after the server was restarted.
const TRIES: u32 = 3;

/// The connections of one store.
pub(crate) struct Pools {
    lanes: PgPool,
    renewals: PgPool,
    readers: PgPool,
    begin_write: Arc<str>,
    begin_read: Arc<str>,
    begin_lookup: Arc<str>,
    place: String,
}

impl Pools {
    /// Sets up the pools; nothing is connected yet.
    pub(crate) fn new(options: &PostgresOptions) -> Self {
        let most = options.pool_size.saturating_add(options.max_overflow);
        let readers = most.saturating_sub(LANES + 1).max(1);
        let kept = options.pool_size.saturating_sub(LANES + 1).max(1);
        let connect = connect_options(options);
        let pool = |size: u32| {
            PgPoolOptions::new()
                .max_connections(size)
                .acquire_timeout(options.acquire_timeout)
                // A dead connection shows at the first statement, which is then tried on another: a question before every
                // statement would double their number.
                .test_before_acquire(false)
                .max_lifetime(Duration::from_mins(30))
        };
        let (lock, statement) = (millis(options.lock_timeout), millis(options.statement_timeout));
        let limits = format!(
            "SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock}; \
             SET LOCAL idle_in_transaction_session_timeout = {statement}"
        );
        // The statements of the lanes reach rows by keys. A plan that was made on a small table would scan it all, and go on
        // doing so when it has grown.
        let plans = "SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_hashjoin = off; \
             SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off; SET LOCAL jit = off";
        // Without a cache sqlx still names each statement that it prepares, and never frees the name: behind a PgBouncer that does
        // not follow names, another client's are in the way.
        let forget = if options.prepared_statements { "" } else { "DEALLOCATE ALL; " };
        Self {
            lanes: pool(LANES).connect_lazy_with(connect.clone()),
            renewals: pool(1).connect_lazy_with(connect.clone()),
            readers: pool(readers).idle_timeout(idle(kept, readers)).connect_lazy_with(connect),
            begin_write: format!("BEGIN; {forget}{limits}; {plans}").into(),
            begin_read: format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {forget}{limits}").into(),
            begin_lookup: format!("BEGIN READ ONLY; {forget}{limits}; {plans}").into(),
            place: options.place(),
        }
    }

    /// Takes a connection for a lane.
    pub(crate) async fn lane(&self) -> Result<PoolConnection<Postgres>, StateError> {
        self.lanes.acquire().await.map_err(|error| self.unreachable(&error))
    }

    /// The statements that open a transaction of a lane.
    pub(crate) fn begin_write(&self) -> AssertSqlSafe<Arc<str>> {
        AssertSqlSafe(Arc::clone(&self.begin_write))
    }

    /// Transactions that read.
    pub(crate) fn reads(&self) -> Attempts<'_> {
        Attempts { pools: self, pool: &self.readers, begin: &self.begin_read, tries: 0 }
    }

    /// Transactions that read by keys, planned as those of the lanes are.
    pub(crate) fn lookups(&self) -> Attempts<'_> {
        Attempts { pools: self, pool: &self.readers, begin: &self.begin_lookup, tries: 0 }
    }

    /// Transactions of renewals, on the connection that is kept for them.
    pub(crate) fn renewing(&self) -> Attempts<'_> {
        Attempts { pools: self, pool: &self.renewals, begin: &self.begin_write, tries: 0 }
    }

    /// Closes all connections.
    pub(crate) async fn close(&self) {
        self.lanes.close().await;
        self.renewals.close().await;
        self.readers.close().await;
    }

    /// Shows how the pools are used.
    pub(crate) fn report(&self) {
        for (name, pool) in [("lanes", &self.lanes), ("renewals", &self.renewals), ("readers", &self.readers)] {
            metrics::gauge!("state_pool_connections", "pool" => name).set(f64::from(pool.size()));
            metrics::gauge!("state_pool_idle", "pool" => name).set(pool.num_idle() as f64);
        }
    }

    fn unreachable(&self, error: &sqlx::Error) -> StateError {
        match state_error(error) {
            StateError::Unavailable(why) => StateError::Unavailable(format!("PostgreSQL at {}: {why}", self.place)),
            other => other,
        }
    }
}

/// How connections are made.
pub(crate) fn connect_options(options: &PostgresOptions) -> PgConnectOptions {
    let capacity = if options.prepared_statements { 128 } else { 0 };
    options.connect.clone().statement_cache_capacity(capacity)
}

/// Transactions of one piece of work that may be done again: the second one begins where the first was cut off.
pub(crate) struct Attempts<'a> {
    pools: &'a Pools,
    pool: &'a PgPool,
    begin: &'a Arc<str>,
    tries: u32,
}

impl Attempts<'_> {
    /// Opens a transaction.
    pub(crate) async fn open(&mut self) -> Result<PoolConnection<Postgres>, StateError> {
        loop {
            let mut conn = self.pool.acquire().await.map_err(|error| self.pools.unreachable(&error))?;
            let Err(error) = conn.execute(AssertSqlSafe(Arc::clone(self.begin))).await else { return Ok(conn) };
            if let Some(error) = self.give_up(conn, &error) {
                return Err(error);
            }
        }
    }

    /// Ends a transaction; none when the work is to be done again in another one.
    pub(crate) async fn close<T>(
        &mut self,
        mut conn: PoolConnection<Postgres>,
        done: Written<T>,
    ) -> Option<Result<T, StateError>> {
        let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = conn.execute(end).await;
        let error = match (done, ended) {
            (Ok(output), Ok(_)) => return Some(Ok(output)),
            (Err(Fault::Refused(error)), _) => return Some(Err(error)),
            (Err(Fault::Sql(error)), _) | (Ok(_), Err(error)) => error,
        };
        self.give_up(conn, &error).map(Err)
    }

    /// The error for the caller; none when another try may go better.
    fn give_up(&mut self, conn: PoolConnection<Postgres>, error: &sqlx::Error) -> Option<StateError> {
        let judged = verdict(error);
        if judged == Verdict::Lost {
            // Closing says goodbye to a server that may not listen: it must not keep the caller.
            drop(conn.detach());
        }
        self.tries += 1;
        (judged == Verdict::Refused || self.tries >= TRIES).then(|| self.pools.unreachable(error))
    }
}

/// Does some work in a transaction of `Attempts`. A macro, because no function can say that the future of a closure which
/// borrows a connection may move between threads.
macro_rules! within {
    ($attempts:expr, $conn:ident => $work:expr) => {{
        let mut attempts = $attempts;
        loop {
            let mut open = attempts.open().await?;
            let $conn = &mut *open;
            let done = $work.await;
            if let Some(result) = attempts.close(open, done).await {
                break result;
            }
        }
    }};
}
pub(crate) use within;

/// Connections above those that are kept go soon after the rush is over.
fn idle(kept: u32, most: u32) -> Duration {
    if most > kept { Duration::from_mins(2) } else { Duration::from_mins(10) }
}

fn millis(duration: Duration) -> u128 {
    duration.as_millis().max(1)
}
