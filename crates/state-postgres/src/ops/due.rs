//! Finds what time, or an outage, made ready.
//!
//! What another transaction holds is left for the next round: it is being dealt with.

use std::time::Duration;

use async_trait::async_trait;
use domain::{Resolution, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use state::{Due, Transition};

use crate::fault::Written;
use crate::rows::Head;
use crate::tx::{HELD, Tx};
use crate::writer::Write;
use state::codec::{corrupt, micros, timestamp};

/// Wakes what is due, and hands out again what nobody seems to have announced.
pub(crate) struct FindDue {
    pub(crate) now: Timestamp,
    pub(crate) reannounce: Duration,
    pub(crate) limit: u32,
}

#[async_trait]
impl Write for FindDue {
    type Output = Due;

    async fn apply(&self, tx: &mut Tx<'_>) -> Written<Due> {
        let mut transition = Transition::default();
        let mut rest = self.limit;
        let next_wait = waits(tx, self.now, &mut rest, &mut transition).await?;
        let woken = gates(tx, self.now, &mut rest, &mut transition).await?;
        let next_task = unannounced(tx, self.now, &mut rest, &mut transition).await?;
        if silent(tx, self, &woken, &mut rest, &mut transition).await? {
            gates(tx, self.now, &mut rest, &mut transition).await?;
        }
        let next_gate = tx.books.gates(tx.conn).await?.next_opening(micros(self.now));
        let next = next_wait.into_iter().chain(next_task).chain(next_gate).min().map(timestamp).transpose()?;
        Ok(Due { transition, next })
    }
}

struct DueWait {
    key: i64,
    due_at: i64,
    timer_at: Option<i64>,
    expires_at: Option<i64>,
    fallback: Option<String>,
}

/// Ends waits whose time has come; returns when the next one does.
async fn waits(tx: &mut Tx<'_>, now: Timestamp, rest: &mut u32, transition: &mut Transition) -> Written<Option<i64>> {
    let sql = "SELECT key, due_at, timer_at, expires_at, fallback FROM waits \
         WHERE due_at IS NOT NULL ORDER BY due_at, key LIMIT $1 FOR UPDATE SKIP LOCKED";
    // One more than may be woken, to know when the next one is due.
    let first = sqlx::query(sql).bind(i64::from(*rest) + 1).fetch_all(&mut *tx.conn).await?;
    for row in &first {
        let wait = due_wait(row)?;
        if wait.due_at > micros(now) || *rest == 0 {
            return Ok(Some(wait.due_at));
        }
        let expired = wait.expires_at.is_some_and(|at| wait.timer_at.is_none_or(|timer| at < timer));
        let by = if expired {
            let fallback = wait.fallback.as_deref().map(serde_json::from_str).transpose();
            Resolution::Expired { default: fallback.map_err(|error| corrupt("a default answer", error))? }
        } else {
            failpoint::hit("C21");
            Resolution::Timer
        };
        tx.resolve(wait.key, by, now, transition).await?;
        *rest -= 1;
    }
    Ok(None)
}

fn due_wait(row: &PgRow) -> Written<DueWait> {
    Ok(DueWait {
        key: row.try_get(0)?,
        due_at: row.try_get(1)?,
        timer_at: row.try_get(2)?,
        expires_at: row.try_get(3)?,
        fallback: row.try_get(4)?,
    })
}

/// Wakes whom gates no longer hold back.
async fn gates(tx: &mut Tx<'_>, now: Timestamp, rest: &mut u32, transition: &mut Transition) -> Written<Vec<i64>> {
    let woken = tx.books.gates(tx.conn).await?.settle(micros(now), *rest as usize);
    *rest = rest.saturating_sub(u32::try_from(woken.len()).unwrap_or(u32::MAX));
    tx.wake(&woken, now, transition).await?;
    Ok(woken.iter().map(|woken| woken.key).collect())
}

/// Hands out queued tasks that were never announced and whose time has come; returns when the next one's does.
async fn unannounced(
    tx: &mut Tx<'_>,
    now: Timestamp,
    rest: &mut u32,
    transition: &mut Transition,
) -> Written<Option<i64>> {
    let sql = "SELECT key, coalesce(run_at, 0) FROM tasks WHERE status < 3 AND status = 0 AND announced_at IS NULL \
         ORDER BY run_at NULLS FIRST, key LIMIT $1 FOR UPDATE SKIP LOCKED";
    let first = sqlx::query(sql).bind(i64::from(*rest) + 1).fetch_all(&mut *tx.conn).await?;
    let mut ready = Vec::new();
    let mut next = None;
    for row in &first {
        let (key, run_at): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        if run_at > micros(now) || *rest == 0 {
            next = Some(run_at.max(0));
            break;
        }
        ready.push(key);
        *rest -= 1;
    }
    announce(tx, &ready, now, transition).await?;
    Ok(next)
}

/// Hands out once more the queued tasks whose announcement lies long back; tells whether one of them kept others waiting.
async fn silent(
    tx: &mut Tx<'_>,
    due: &FindDue,
    woken: &[i64],
    rest: &mut u32,
    transition: &mut Transition,
) -> Written<bool> {
    let age = i64::try_from(due.reannounce.as_micros()).unwrap_or(i64::MAX);
    let before = micros(due.now).saturating_sub(age).min(HELD - 1);
    let sql = "SELECT key FROM tasks WHERE status < 3 AND status = 0 AND announced_at <= $1 \
         ORDER BY announced_at, key LIMIT $2 FOR UPDATE SKIP LOCKED";
    let mut keys = tx.keys(sqlx::query(sql).bind(before).bind(i64::from(*rest))).await?;
    keys.retain(|key| !woken.contains(key));
    *rest = rest.saturating_sub(u32::try_from(keys.len()).unwrap_or(u32::MAX));
    let mut lapsed = false;
    for head in announce(tx, &keys, due.now, transition).await? {
        lapsed |= head.has_gates && tx.books.gates(tx.conn).await?.lapse(head.id);
    }
    Ok(lapsed)
}

/// Hands out tasks, in the order in which they are given.
async fn announce(tx: &mut Tx<'_>, keys: &[i64], now: Timestamp, transition: &mut Transition) -> Written<Vec<Head>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "UPDATE tasks SET announced_at = $2 WHERE key = ANY($1)";
    tx.execute(sqlx::query(sql).bind(keys).bind(micros(now))).await?;
    let mut heads = tx.heads(keys).await?;
    heads.sort_by_key(|head| keys.iter().position(|key| *key == head.key));
    transition.ready.extend(heads.iter().map(Head::ready));
    Ok(heads)
}
