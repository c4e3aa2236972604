//! What the rules of gates change in the record.

use domain::{TaskId, Timestamp};
use state::Transition;
use state::gates::{Candidate, Woken};

use crate::fault::Written;
use crate::rows::TaskRow;
use crate::tx::{HELD, Tx};
use state::codec::micros;

/// Decides whether a task's gates let a worker have it; one that they do not is marked as held back.
pub(super) async fn admit(tx: &mut Tx<'_>, row: &TaskRow, now: Timestamp) -> Written<bool> {
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
    let admission = tx.books.gates(tx.conn).await?.admit(&candidate, micros(now));
    for start in admission.starts {
        let sql = "INSERT INTO gate_starts (namespace, gate, at, forget_at) VALUES ($1, $2, $3, $4)";
        let insert =
            sqlx::query(sql).bind(task.namespace.as_str()).bind(start.gate).bind(start.at).bind(start.forget_at);
        tx.execute(insert).await?;
    }
    if !admission.admitted {
        let sql = "UPDATE tasks SET announced_at = $2 WHERE key = $1";
        tx.execute(sqlx::query(sql).bind(row.key).bind(HELD)).await?;
    }
    // A claim announces nothing: the next round of `due` does.
    announce(tx, &admission.woken, None).await?;
    Ok(admission.admitted)
}

impl Tx<'_> {
    /// Gives back a task's places, or its place among those held back, and wakes who may run for it.
    pub(crate) async fn leave_gates(
        &mut self,
        task: TaskId,
        now: Timestamp,
        transition: &mut Transition,
    ) -> Written<()> {
        let woken = self.books.gates(self.conn).await?.leave(task, micros(now));
        self.wake(&woken, now, transition).await
    }

    /// Announces tasks that gates no longer hold back.
    pub(crate) async fn wake(&mut self, woken: &[Woken], now: Timestamp, transition: &mut Transition) -> Written<()> {
        announce(self, woken, Some(micros(now))).await?;
        transition.ready.extend(woken.iter().map(|woken| woken.ready));
        Ok(())
    }
}

async fn announce(tx: &mut Tx<'_>, woken: &[Woken], at: Option<i64>) -> Written<()> {
    if woken.is_empty() {
        return Ok(());
    }
    let keys: Vec<i64> = woken.iter().map(|woken| woken.key).collect();
    let sql = "UPDATE tasks SET announced_at = $2 WHERE key = ANY($1)";
    tx.execute(sqlx::query(sql).bind(keys).bind(at)).await?;
    Ok(())
}

/// Forgets starts that no window counts any more.
pub(super) async fn forget(tx: &mut Tx<'_>, now: Timestamp, limit: u32) -> Written<()> {
    let sql = "DELETE FROM gate_starts WHERE key IN \
         (SELECT key FROM gate_starts WHERE forget_at <= $1 ORDER BY forget_at LIMIT $2)";
    tx.execute(sqlx::query(sql).bind(micros(now)).bind(i64::from(limit))).await?;
    tx.books.gates(tx.conn).await?.forget(micros(now));
    Ok(())
}
