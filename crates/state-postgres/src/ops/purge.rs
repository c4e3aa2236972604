//! Deletes what retention no longer keeps, in portions.

use std::collections::BTreeMap;

use async_trait::async_trait;
use domain::{TaskStatus, Timestamp};
use sqlx::Row as _;
use state::{Purged, Retention};

use super::{artifacts, budget, gates};
use crate::fault::Written;
use crate::tx::Tx;
use crate::writer::Write;
use state::codec::{self, micros};

/// Deletes about `limit` rows: a family of tasks is deleted whole or not at all.
pub(crate) struct Purge {
    pub(crate) retention: Retention,
    pub(crate) now: Timestamp,
    pub(crate) limit: u32,
}

#[async_trait]
impl Write for Purge {
    type Output = Purged;

    async fn apply(&self, tx: &mut Tx<'_>) -> Written<Purged> {
        let limit = u64::from(self.limit);
        let values = self.values(tx).await?;
        let mut rows = values;
        let mut tasks: Vec<i64> = Vec::new();
        let roots = self.roots(tx, limit.saturating_sub(rows)).await?;
        for family in families(tx, &roots).await? {
            if rows >= limit {
                break;
            }
            if family.ended {
                rows += family.rows;
                tasks.extend(family.tasks);
            }
        }
        let purged = Purged { tasks: tasks.len() as u64, values };
        if !tasks.is_empty() {
            delete(tx, &tasks).await?;
        }
        budget::purge_windows(tx, self.now, self.limit).await?;
        gates::forget(tx, self.now, self.limit).await?;
        let sql = "DELETE FROM idempotency WHERE (namespace, key) IN \
             (SELECT namespace, key FROM idempotency WHERE status IS NOT NULL AND created_at <= $1 LIMIT $2)";
        let before = self.before(self.retention.idempotency_keys);
        tx.execute(sqlx::query(sql).bind(before).bind(limit.saturating_sub(rows) as i64)).await?;
        Ok(purged)
    }
}

impl Purge {
    fn before(&self, keep: std::time::Duration) -> i64 {
        micros(self.now).saturating_sub(i64::try_from(keep.as_micros()).unwrap_or(i64::MAX))
    }

    async fn values(&self, tx: &mut Tx<'_>) -> Written<u64> {
        let sql = "DELETE FROM state_values WHERE row_key IN (SELECT row_key FROM state_values \
             WHERE expires_at IS NOT NULL AND expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";
        tx.execute(sqlx::query(sql).bind(micros(self.now)).bind(i64::from(self.limit))).await
    }

    /// The oldest tasks that ended long ago. Sub-tasks go with their parent; one whose parent is gone goes on its own.
    async fn roots(&self, tx: &mut Tx<'_>, limit: u64) -> Written<Vec<i64>> {
        let sql = "SELECT key FROM tasks AS task WHERE status > 2 AND finished_at <= $1 \
             AND (parent IS NULL OR NOT EXISTS (SELECT 1 FROM tasks AS above WHERE above.id = task.parent)) \
             ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED";
        tx.keys(sqlx::query(sql).bind(self.before(self.retention.ended_tasks)).bind(limit as i64)).await
    }
}

/// A task with all sub-tasks below it.
#[derive(Debug, Default)]
struct Family {
    tasks: Vec<i64>,
    /// All of them have.
    ended: bool,
    /// How many rows it has: tasks and their steps.
    rows: u64,
}

/// The families of these tasks, in their order.
async fn families(tx: &mut Tx<'_>, roots: &[i64]) -> Written<Vec<Family>> {
    let sql = "WITH RECURSIVE family (root, key, id, status) AS ( \
             SELECT key, key, id, status FROM tasks WHERE key = ANY($1) \
             UNION ALL SELECT root, below.key, below.id, below.status FROM family \
             JOIN tasks AS below ON below.parent = family.id AND below.parent IS NOT NULL) \
         SELECT root, key, status, \
             (SELECT count(*) FROM steps WHERE place >= family.key << 20 AND place < (family.key + 1) << 20) \
         FROM family";
    let mut found: BTreeMap<i64, Family> = BTreeMap::new();
    for row in sqlx::query(sql).bind(roots).fetch_all(&mut *tx.conn).await? {
        let empty = || Family { ended: true, ..Family::default() };
        let family = found.entry(row.try_get(0)?).or_insert_with(empty);
        let status: TaskStatus = codec::status(row.try_get(2)?)?;
        family.tasks.push(row.try_get(1)?);
        family.ended &= status.is_terminal();
        family.rows += 1 + row.try_get::<i64, _>(3)? as u64;
    }
    Ok(roots.iter().filter_map(|root| found.remove(root)).collect())
}

/// Deletes tasks with all that is theirs, and leaves their idempotency keys behind.
async fn delete(tx: &mut Tx<'_>, tasks: &[i64]) -> Written<()> {
    budget::purge_tasks(tx, tasks).await?;
    artifacts::forget(tx, tasks).await?;
    for sql in [
        "UPDATE idempotency SET status = tasks.status FROM tasks WHERE tasks.key = ANY($1) \
         AND idempotency.namespace = tasks.namespace AND idempotency.key = tasks.idempotency_key",
        "DELETE FROM waits WHERE task_key = ANY($1)",
        "DELETE FROM signals WHERE task_key = ANY($1)",
        "DELETE FROM steps USING unnest($1::bigint[]) AS task (key) \
         WHERE place >= task.key << 20 AND place < (task.key + 1) << 20",
        "DELETE FROM tasks WHERE key = ANY($1)",
    ] {
        tx.execute(sqlx::query(sql).bind(tasks)).await?;
    }
    Ok(())
}
