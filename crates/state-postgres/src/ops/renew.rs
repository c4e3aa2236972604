//! Counts the renewals of leases: one statement for all leases of a worker, on a connection that nothing else uses.

use std::collections::HashMap;

use domain::{Lease, TaskId, WorkerId};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use state::{LeaseBeat, Renewed, StateError};

use crate::fault::Written;
use crate::pool::{Pools, within};
use crate::rows;

/// Counts one renewal of each lease that the worker still holds.
///
/// The first statement takes the rows that nobody has locked. Of the rest, each is waited for alone and in a transaction of
/// its own, so that a renewal never waits while it holds a row.
pub(crate) async fn renew(pools: &Pools, worker: WorkerId, leases: Vec<Lease>) -> Result<Renewed, StateError> {
    let mut renewed = Renewed::default();
    if leases.is_empty() {
        return Ok(renewed);
    }
    let mut found = within!(pools.renewing(), conn => count(conn, worker, &leases))?;
    for lease in leases {
        let cancel = match found.remove(&lease.task) {
            Some(cancel) => Some(cancel),
            None => within!(pools.renewing(), conn => count_one(conn, worker, lease))?,
        };
        match cancel {
            Some(true) => renewed.cancel.push(lease),
            Some(false) => {}
            None => renewed.lost.push(lease),
        }
    }
    Ok(renewed)
}

/// Returns which tasks are still held, and whether they were asked to stop.
async fn count(conn: &mut PgConnection, worker: WorkerId, leases: &[Lease]) -> Written<HashMap<TaskId, bool>> {
    let sql = "WITH held AS (SELECT key FROM unnest($1::uuid[], $2::bigint[]) AS lease (task, lease_epoch) \
         JOIN tasks ON id = task WHERE status = 1 AND epoch = lease_epoch AND worker = $3 \
         FOR NO KEY UPDATE OF tasks SKIP LOCKED) \
         UPDATE tasks SET beat = beat + 1 FROM held WHERE tasks.key = held.key RETURNING tasks.id, cancel_requested";
    let (tasks, epochs): (Vec<_>, Vec<_>) = leases.iter().map(|lease| (lease.task.0, i64::from(lease.epoch))).unzip();
    let found = sqlx::query(sql).bind(tasks).bind(epochs).bind(worker.0).fetch_all(conn).await?;
    found.iter().map(|row| Ok((TaskId(row.try_get(0)?), row.try_get(1)?))).collect()
}

async fn count_one(conn: &mut PgConnection, worker: WorkerId, lease: Lease) -> Written<Option<bool>> {
    let sql = "UPDATE tasks SET beat = beat + 1 WHERE id = $1 AND status = 1 AND epoch = $2 AND worker = $3 \
         RETURNING cancel_requested";
    let found = sqlx::query(sql).bind(lease.task.0).bind(i64::from(lease.epoch)).bind(worker.0);
    Ok(found.fetch_optional(conn).await?.map(|row| row.try_get(0)).transpose()?)
}

/// Lists the leases that are held.
pub(crate) async fn list(conn: &mut PgConnection) -> Written<Vec<LeaseBeat>> {
    let sql = "SELECT id, epoch, worker, beat FROM tasks WHERE status < 3 AND status = 1 AND worker IS NOT NULL";
    sqlx::query(sql).fetch_all(conn).await?.iter().map(beat).collect()
}

fn beat(row: &PgRow) -> Written<LeaseBeat> {
    Ok(LeaseBeat {
        lease: Lease { task: TaskId(row.try_get(0)?), epoch: rows::number(row, 1)? },
        worker: WorkerId(row.try_get(2)?),
        beat: row.try_get::<i64, _>(3)? as u64,
    })
}
