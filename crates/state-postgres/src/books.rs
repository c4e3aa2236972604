//! What limits are decided with, in every process: one row of the table `books` that whoever decides has locked, and a
//! replica of the rules of gates that knows all that was decided before.
//!
//! ```text
//!   lock the row ──► its version is the replica's? ──no──► take in the log since, or read the tasks anew
//!        │                        yes │                              │
//!        │                            └──────────► decide ◄──────────┘
//!        └── commit ◄── add the facts to the log, count the version up
//! ```
//!
//! Limits are exact for any number of processes, because only one decides at a time, and with what all others have committed.
//! A replica that a transaction has changed counts again only when that transaction has committed: else it is made anew.
//! Tasks of which the log no longer says that they were called are not known to be, as after a restart: their turn
//! comes by the next announcement.
//!
//! The row is locked before the replica: who waits for a row in the database never holds what another one needs here.

use std::collections::HashMap;
use std::sync::Arc;

use domain::{Namespace, TaskId, TaskStatus, Terms};
use sqlx::postgres::PgRow;
use sqlx::{Executor as _, PgConnection, Row as _};
use state::GateWait;
use state::gates::{Candidate, Fact, Gates, Place};
use tokio::sync::{Mutex, OwnedMutexGuard};
use uuid::Uuid;

use crate::fault::Written;
use crate::rows;
use crate::tx::HELD;
use state::codec::{self, Body, status_column};

/// How many facts the log keeps: a process that has missed more reads the tasks anew.
const KEPT: i64 = 10_000;
/// The log is cut whenever so many more have been added.
const CUT_EVERY: i64 = 1_000;
/// Facts are compressed above so many bytes.
const THRESHOLD: usize = 1_024;

/// The replica of one process.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedBooks(Arc<Mutex<Replica>>);

#[derive(Debug, Default)]
struct Replica {
    gates: Gates,
    /// What it knows all of; none when it must be made anew.
    version: Option<i64>,
}

/// The books of one transaction. Dropped without `committed`, they count as taken back.
#[derive(Debug)]
pub(crate) struct Books {
    shared: Arc<Mutex<Replica>>,
    open: Option<Open>,
}

/// The row is locked.
#[derive(Debug)]
struct Open {
    replica: OwnedMutexGuard<Replica>,
    /// The version that the replica knew when the transaction began, as long as what it knows is told by `facts`.
    began: Option<i64>,
    /// The row's version, as this transaction left it.
    version: i64,
    /// What was decided and is not in the log yet.
    facts: Vec<Fact>,
}

/// A point in a transaction that may be gone back to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark(Option<usize>);

impl SharedBooks {
    /// The books of a new transaction.
    pub(crate) fn books(&self) -> Books {
        Books { shared: Arc::clone(&self.0), open: None }
    }

    /// Says which gate holds a task back, as of the last commit.
    pub(crate) async fn wait(
        &self,
        conn: &mut PgConnection,
        namespace: &Namespace,
        task: TaskId,
        now: i64,
    ) -> Written<Option<GateWait>> {
        let mut replica = self.0.lock().await;
        // All statements must see the same moment. This one must be the transaction's first.
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
        if !replica.follow(conn).await? {
            let version = sqlx::query_scalar("SELECT version FROM books").fetch_one(&mut *conn).await?;
            replica.rebuild(conn, version).await?;
        }
        Ok(replica.gates.wait(namespace, task, now))
    }
}

impl Books {
    /// Locks the row until the transaction ends, and brings the replica up to date. Once a transaction is enough.
    pub(crate) async fn lock(&mut self, conn: &mut PgConnection) -> Written<()> {
        if self.open.is_some() {
            return Ok(());
        }
        let version = sqlx::query_scalar("SELECT version FROM books FOR UPDATE").fetch_one(&mut *conn).await?;
        let mut replica = Arc::clone(&self.shared).lock_owned().await;
        if replica.version != Some(version) && !replica.follow(conn).await? {
            replica.rebuild(conn, version).await?;
        }
        self.open = Some(Open { replica, began: Some(version), version, facts: Vec::new() });
        Ok(())
    }

    /// The rules of gates, on all that was decided before. Locks the books.
    pub(crate) async fn gates(&mut self, conn: &mut PgConnection) -> Written<&mut Gates> {
        self.lock(conn).await?;
        let open = self.open.as_mut().ok_or_else(|| codec::corrupt("the books", "not open"))?;
        open.replica.version = None;
        Ok(&mut open.replica.gates)
    }

    /// Marks the beginning of an operation that may be taken back on its own.
    pub(crate) fn mark(&mut self) -> Mark {
        Mark(self.open.as_mut().map(Open::gather))
    }

    /// Follows a rollback to the savepoint that was set at a mark.
    pub(crate) async fn undo(&mut self, conn: &mut PgConnection, mark: Mark) -> Written<()> {
        let Mark(Some(kept)) = mark else {
            // The rollback has released the row, too.
            self.open = None;
            return Ok(());
        };
        let Some(open) = &mut self.open else { return Ok(()) };
        if open.gather() > kept {
            open.began = None;
            open.facts.truncate(kept);
            open.record(conn).await?;
            open.replica.rebuild(conn, open.version).await?;
            open.replica.version = None;
        }
        Ok(())
    }

    /// Adds what was decided to the log: the last thing before the commit.
    pub(crate) async fn record(&mut self, conn: &mut PgConnection) -> Written<()> {
        match &mut self.open {
            Some(open) => open.record(conn).await,
            None => Ok(()),
        }
    }

    /// The transaction is durable: what the replica was changed to is true.
    pub(crate) fn committed(&mut self) {
        if let Some(mut open) = self.open.take() {
            (open.began, open.replica.version) = (None, Some(open.version));
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // Nothing was decided: what the replica knew is as true as before.
        if self.began == Some(self.version) && self.gather() == 0 {
            self.replica.version = self.began;
        }
    }
}

impl Open {
    /// Takes what was decided from the replica; returns how many facts are to be recorded.
    fn gather(&mut self) -> usize {
        self.facts.extend(self.replica.gates.take_facts());
        self.facts.len()
    }

    async fn record(&mut self, conn: &mut PgConnection) -> Written<()> {
        let count = self.gather() as i64;
        if count == 0 {
            return Ok(());
        }
        let body = Body::encode_own(&self.facts, THRESHOLD, "facts")?;
        let version = self.version + count;
        let sql = "WITH added AS (INSERT INTO gate_log (version, follows, enc, facts) VALUES ($1, $2, $3, $4)) \
             UPDATE books SET version = $1";
        let query = sqlx::query(sql).bind(version).bind(self.version).bind(body.enc).bind(body.bytes);
        query.execute(&mut *conn).await?;
        if version / CUT_EVERY != self.version / CUT_EVERY {
            sqlx::query("DELETE FROM gate_log WHERE version <= $1").bind(version - KEPT).execute(conn).await?;
        }
        self.version = version;
        self.facts.clear();
        Ok(())
    }
}

impl Replica {
    /// Takes in what others added to the log. False when that is not enough: it must be made anew.
    async fn follow(&mut self, conn: &mut PgConnection) -> Written<bool> {
        let Some(mut known) = self.version else { return Ok(false) };
        let sql = "SELECT books.version, added.version, follows, enc, facts FROM books \
             LEFT JOIN gate_log AS added ON added.version > $1 ORDER BY added.version";
        let found = sqlx::query(sql).bind(known).fetch_all(conn).await?;
        let Some(newest) = found.first() else { return Err(codec::corrupt("the books", "the row is missing").into()) };
        let newest: i64 = newest.try_get(0)?;
        // Whatever stops this half-way leaves a replica that knows too much to count as old, and too little to be new.
        self.version = None;
        for row in &found {
            let Some(version) = row.try_get(1)? else { break };
            if row.try_get::<i64, _>(2)? != known {
                return Ok(false);
            }
            let facts: Vec<Fact> = rows::body(row, 3)?.decode("facts")?;
            if !facts.iter().all(|fact| self.gates.apply(fact)) {
                return Ok(false);
            }
            known = version;
        }
        if known != newest {
            return Ok(false);
        }
        self.version = Some(known);
        Ok(true)
    }

    /// Makes it anew from the record, as of a version.
    async fn rebuild(&mut self, conn: &mut PgConnection, version: i64) -> Written<()> {
        self.version = None;
        let mut gates = Gates::default();
        let sql = "SELECT namespace, gate, at, forget_at FROM gate_starts ORDER BY at, key";
        for row in sqlx::query(sql).fetch_all(&mut *conn).await? {
            let (gate, at, forget_at) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            gates.restore_start(rows::namespace(&row, 0)?, gate, at, forget_at);
        }
        let sql = "SELECT key, id, namespace, mode, priority, started_at, terms, status FROM tasks \
             WHERE status < 3 AND (status = $1 OR status = $2 AND announced_at = $3) AND terms IS NOT NULL ORDER BY key";
        let (running, queued) = (status_column(TaskStatus::Running), status_column(TaskStatus::Queued));
        for row in sqlx::query(sql).bind(running).bind(queued).bind(HELD).fetch_all(&mut *conn).await? {
            restore(&mut gates, &row, if row.try_get::<i64, _>(7)? == running { Place::Running } else { Place::Held })?;
        }
        let called = called(conn).await?;
        let ids: Vec<Uuid> = called.keys().map(|task| task.0).collect();
        let sql = "SELECT key, id, namespace, mode, priority, started_at, terms FROM tasks WHERE id = ANY($1) \
             AND status = $2 AND (announced_at IS NULL OR announced_at < $3) AND terms IS NOT NULL ORDER BY key";
        for row in sqlx::query(sql).bind(ids).bind(queued).bind(HELD).fetch_all(conn).await? {
            if let Some(place) = called.get(&TaskId(row.try_get(1)?)) {
                restore(&mut gates, &row, *place)?;
            }
        }
        gates.remember_facts();
        self.gates = gates;
        self.version = Some(version);
        Ok(())
    }
}

/// The tasks that were called and had not come or left when the log was last added to.
async fn called(conn: &mut PgConnection) -> Written<HashMap<TaskId, Place>> {
    let mut called = HashMap::new();
    for row in sqlx::query("SELECT enc, facts FROM gate_log ORDER BY version").fetch_all(conn).await? {
        let facts: Vec<Fact> = rows::body(&row, 0)?.decode("facts")?;
        for fact in facts {
            match fact {
                Fact::Stands { task, place: place @ (Place::Promised | Place::Lapsed) } => called.insert(task, place),
                Fact::Stands { task, .. } | Fact::Left { task } => called.remove(&task),
                Fact::Came { .. } | Fact::Started { .. } => None,
            };
        }
    }
    Ok(called)
}

fn restore(gates: &mut Gates, row: &PgRow, place: Place) -> Written<()> {
    let terms: Terms = rows::json_or_none(row, 6, "terms")?.unwrap_or_default();
    let candidate = Candidate {
        key: row.try_get(0)?,
        id: TaskId(row.try_get(1)?),
        namespace: &rows::namespace(row, 2)?,
        mode: codec::mode(row.try_get(3)?)?,
        priority: rows::number(row, 4)?,
        started: row.try_get::<Option<i64>, _>(5)?.is_some(),
        gates: &terms.gates,
    };
    gates.restore(&candidate, place);
    Ok(())
}
