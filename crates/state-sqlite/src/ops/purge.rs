//! Deletes what retention no longer keeps, in portions.

use domain::{TaskId, Timestamp};
use rusqlite::params;
use state::{Purged, Retention};

use super::{artifacts, budget, gates};
use crate::fault::Written;
use crate::rows::Head;
use crate::tx::Tx;
use crate::writer::Write;
use state::codec::{micros, status_column};

/// Deletes about `limit` rows: a family of tasks is deleted whole or not at all.
pub(crate) struct Purge {
    pub(crate) retention: Retention,
    pub(crate) now: Timestamp,
    pub(crate) limit: u32,
}

impl Write for Purge {
    type Output = Purged;

    fn apply(self, tx: &Tx<'_>) -> Written<Purged> {
        let limit = u64::from(self.limit);
        let mut purged = Purged { tasks: 0, values: self.values(tx)? };
        let mut rows = purged.values;
        // Sub-tasks go with their parent; one whose parent is gone goes on its own.
        let sql = "SELECT key FROM tasks AS task WHERE status > 2 AND finished_at <= ?1 \
             AND (parent IS NULL OR NOT EXISTS (SELECT 1 FROM tasks AS above WHERE above.id = task.parent)) \
             ORDER BY finished_at LIMIT ?2";
        let before = self.before(self.retention.ended_tasks);
        for key in tx.keys(sql, params![before, limit.saturating_sub(rows) as i64])? {
            if rows >= limit {
                break;
            }
            let Some(family) = ended_family(tx, tx.head_at(key)?)? else { continue };
            for head in family {
                rows += 1 + delete(tx, &head)?;
                purged.tasks += 1;
            }
        }
        budget::purge_windows(tx, self.now, self.limit)?;
        gates::forget(tx, self.now, self.limit)?;
        let sql = "DELETE FROM idempotency WHERE (namespace, key) IN \
             (SELECT namespace, key FROM idempotency WHERE status IS NOT NULL AND created_at <= ?1 LIMIT ?2)";
        let rest = limit.saturating_sub(rows) as i64;
        tx.execute(sql, params![self.before(self.retention.idempotency_keys), rest])?;
        Ok(purged)
    }
}

impl Purge {
    fn before(&self, keep: std::time::Duration) -> i64 {
        micros(self.now).saturating_sub(i64::try_from(keep.as_micros()).unwrap_or(i64::MAX))
    }

    fn values(&self, tx: &Tx<'_>) -> Written<u64> {
        let sql = "DELETE FROM state_values WHERE row_key IN \
             (SELECT row_key FROM state_values WHERE expires_at IS NOT NULL AND expires_at <= ?1 LIMIT ?2)";
        Ok(tx.execute(sql, params![micros(self.now), self.limit])? as u64)
    }
}

/// Deletes a task and its journal, and leaves its key behind; returns how many steps went.
fn delete(tx: &Tx<'_>, head: &Head) -> Written<u64> {
    let sql = "UPDATE idempotency SET status = ?2 \
         WHERE (namespace, key) IN (SELECT namespace, idempotency_key FROM tasks WHERE key = ?1)";
    tx.execute(sql, params![head.key, status_column(head.status)])?;
    budget::purge_task(tx, head)?;
    artifacts::forget(tx, head.key)?;
    Ok(tx.forget(head.key)? as u64)
}

/// A task with all sub-tasks below it; none when one of them has not ended.
fn ended_family(tx: &Tx<'_>, root: Head) -> Written<Option<Vec<Head>>> {
    let mut family = vec![root];
    let mut index = 0;
    while index < family.len() {
        for child in children(tx, family[index].id)? {
            if !child.status.is_terminal() {
                return Ok(None);
            }
            family.push(child);
        }
        index += 1;
    }
    Ok(Some(family))
}

fn children(tx: &Tx<'_>, parent: TaskId) -> Written<Vec<Head>> {
    let keys =
        tx.keys("SELECT key FROM tasks WHERE parent = ?1 AND parent IS NOT NULL", params![parent.0.as_bytes()])?;
    tx.heads(&keys)
}
