//! What the rules of gates change in the record, and how they are filled from it.

use domain::{GateLimit, TaskId, TaskStatus, Terms, Timestamp};
use rusqlite::params;
use rusqlite::types::Null;
use state::Transition;
use state::gates::{Candidate, Gates, Place, Woken};

use crate::fault::Written;
use crate::rows::{self, TaskRow};
use crate::tx::{HELD, Tx};
use state::codec::{self, micros, status_column};

/// Decides whether a task's gates let a worker have it; one that they do not is marked as held back.
pub(super) fn admit(tx: &Tx<'_>, row: &TaskRow, now: Timestamp) -> Written<bool> {
    let task = &row.task;
    let candidate = Candidate {
        id: task.id,
        key: row.key,
        namespace: &task.namespace,
        mode: task.mode,
        priority: task.priority,
        started: task.started_at.is_some(),
        gates: &task.terms.gates,
    };
    let admission = tx.leases.gates().admit(&candidate, micros(now));
    for start in &admission.starts {
        let sql = "INSERT INTO gate_starts (namespace, gate, at, forget_at) VALUES (?1, ?2, ?3, ?4)";
        tx.execute(sql, params![task.namespace.as_str(), start.gate, start.at, start.forget_at])?;
    }
    if !admission.admitted {
        tx.execute("UPDATE tasks SET announced_at = ?2 WHERE key = ?1", params![row.key, HELD])?;
    }
    // A claim announces nothing: the next round of `due` does.
    for woken in &admission.woken {
        tx.execute("UPDATE tasks SET announced_at = ?2 WHERE key = ?1", params![woken.key, Null])?;
    }
    Ok(admission.admitted)
}

impl Tx<'_> {
    /// Gives back a task's places, or its place among those held back, and wakes who may run for it.
    pub(crate) fn leave_gates(&self, task: TaskId, now: Timestamp, transition: &mut Transition) -> Written<()> {
        let woken = self.leases.gates().leave(task, micros(now));
        self.wake(&woken, now, transition)
    }

    /// Announces tasks that gates no longer hold back.
    pub(crate) fn wake(&self, woken: &[Woken], now: Timestamp, transition: &mut Transition) -> Written<()> {
        for Woken { key, ready } in woken {
            self.execute("UPDATE tasks SET announced_at = ?2 WHERE key = ?1", params![key, micros(now)])?;
            transition.ready.push(*ready);
        }
        Ok(())
    }
}

/// Finds the tasks that were called, or announced for the first time, and that nobody had claimed for good.
pub(crate) fn called(tx: &Tx<'_>) -> Written<Vec<i64>> {
    let sql = "SELECT key FROM tasks WHERE status < 3 AND status = 0 AND announced_at IS NOT NULL \
         AND announced_at < ?1 AND terms IS NOT NULL ORDER BY key";
    tx.keys(sql, params![HELD])
}

/// Holds back what was running or called when the store was left, so that it takes its turn by its priority and age.
pub(crate) fn recover(tx: &Tx<'_>, keys: impl IntoIterator<Item = i64>, now: Timestamp) -> Written<()> {
    for key in keys {
        let sql = "SELECT terms, started_at IS NOT NULL FROM tasks \
             WHERE key = ?1 AND status = 0 AND announced_at IS NULL AND (run_at IS NULL OR run_at <= ?2)";
        let mut statement = tx.statement(sql)?;
        let mut found = statement.query(params![key, micros(now)])?;
        let Some(row) = found.next()? else { continue };
        let terms: Terms = rows::json_or_none(row, 0, "terms")?.unwrap_or_default();
        let started: bool = row.get(1)?;
        let concerns = |limit| !started || matches!(limit, GateLimit::Running { .. });
        if terms.gates.iter().any(|gate| concerns(gate.limit)) {
            tx.execute("UPDATE tasks SET announced_at = ?2 WHERE key = ?1", params![key, HELD])?;
        }
    }
    Ok(())
}

/// Reads who holds places and who is held back from the record.
pub(crate) fn reload(tx: &Tx<'_>) -> Written<()> {
    let mut gates = Gates::default();
    let sql = "SELECT namespace, gate, at, forget_at FROM gate_starts ORDER BY at, key";
    let mut statement = tx.statement(sql)?;
    let mut starts = statement.query([])?;
    while let Some(row) = starts.next()? {
        gates.restore_start(rows::namespace(row, 0)?, row.get(1)?, row.get(2)?, row.get(3)?);
    }
    let sql = "SELECT key, id, namespace, mode, priority, started_at, terms, status FROM tasks \
         WHERE status < 3 AND (status = ?1 OR (status = ?2 AND announced_at = ?3)) AND terms IS NOT NULL ORDER BY key";
    let running = status_column(TaskStatus::Running);
    let mut statement = tx.statement(sql)?;
    let mut found = statement.query(params![running, status_column(TaskStatus::Queued), HELD])?;
    while let Some(row) = found.next()? {
        let terms: Terms = rows::json_or_none(row, 6, "terms")?.unwrap_or_default();
        let candidate = Candidate {
            key: row.get(0)?,
            id: TaskId(rows::uuid(row, 1)?),
            namespace: &rows::namespace(row, 2)?,
            mode: codec::mode(row.get(3)?)?,
            priority: row.get(4)?,
            started: row.get::<_, Option<i64>>(5)?.is_some(),
            gates: &terms.gates,
        };
        let place = if row.get::<_, i64>(7)? == running { Place::Running } else { Place::Held };
        gates.restore(&candidate, place);
    }
    *tx.leases.gates() = gates;
    Ok(())
}

/// Forgets starts that no window counts any more.
pub(super) fn forget(tx: &Tx<'_>, now: Timestamp, limit: u32) -> Written<()> {
    let sql = "DELETE FROM gate_starts WHERE key IN \
         (SELECT key FROM gate_starts WHERE forget_at <= ?1 ORDER BY forget_at LIMIT ?2)";
    tx.execute(sql, params![micros(now), limit])?;
    tx.leases.gates().forget(micros(now));
    Ok(())
}
