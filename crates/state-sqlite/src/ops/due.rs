//! Finds what time, or an outage, made ready.

use std::time::Duration;

use domain::{Resolution, TaskId, Timestamp};
use rusqlite::{OptionalExtension as _, params};
use state::{Due, Transition};

use crate::fault::Written;
use crate::tx::{HELD, Tx};
use crate::writer::Write;
use state::codec::{corrupt, micros, timestamp};

/// Wakes what is due, and hands out again what nobody seems to have announced.
pub(crate) struct FindDue {
    pub(crate) now: Timestamp,
    pub(crate) reannounce: Duration,
    pub(crate) limit: u32,
}

impl Write for FindDue {
    type Output = Due;

    fn apply(self, tx: &Tx<'_>) -> Written<Due> {
        let mut transition = Transition::default();
        let mut rest = self.limit;
        let next_wait = waits(tx, self.now, &mut rest, &mut transition)?;
        let woken = gates(tx, self.now, &mut rest, &mut transition)?;
        let next_task = unannounced(tx, self.now, &mut rest, &mut transition)?;
        if silent(tx, &self, &woken, &mut rest, &mut transition)? {
            gates(tx, self.now, &mut rest, &mut transition)?;
        }
        let next_gate = tx.leases.gates().next_opening(micros(self.now));
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
fn waits(tx: &Tx<'_>, now: Timestamp, rest: &mut u32, transition: &mut Transition) -> Written<Option<i64>> {
    let sql = "SELECT key, due_at, timer_at, expires_at, fallback FROM waits \
         WHERE due_at IS NOT NULL ORDER BY due_at, key LIMIT ?1";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(DueWait {
            key: row.get(0)?,
            due_at: row.get(1)?,
            timer_at: row.get(2)?,
            expires_at: row.get(3)?,
            fallback: row.get(4)?,
        })
    };
    // One more than may be woken, to know when the next one is due.
    let limit = i64::from(*rest) + 1;
    let first: Vec<DueWait> = tx.statement(sql)?.query_map(params![limit], read)?.collect::<Result<_, _>>()?;
    for wait in first {
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
        tx.resolve(wait.key, by, now, transition)?;
        *rest -= 1;
    }
    Ok(None)
}

/// Wakes whom gates no longer hold back.
fn gates(tx: &Tx<'_>, now: Timestamp, rest: &mut u32, transition: &mut Transition) -> Written<Vec<i64>> {
    let woken = tx.leases.gates().settle(micros(now), *rest as usize);
    *rest = rest.saturating_sub(u32::try_from(woken.len()).unwrap_or(u32::MAX));
    tx.wake(&woken, now, transition)?;
    Ok(woken.iter().map(|woken| woken.key).collect())
}

/// Hands out queued tasks that were never announced and whose time has come; returns when the next one's does.
fn unannounced(tx: &Tx<'_>, now: Timestamp, rest: &mut u32, transition: &mut Transition) -> Written<Option<i64>> {
    let sql = "SELECT key, coalesce(run_at, 0) FROM tasks \
         WHERE status < 3 AND status = 0 AND announced_at IS NULL ORDER BY run_at LIMIT ?1";
    let limit = i64::from(*rest) + 1;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let first: Vec<(i64, i64)> = tx.statement(sql)?.query_map(params![limit], read)?.collect::<Result<_, _>>()?;
    for (key, run_at) in first {
        if run_at > micros(now) || *rest == 0 {
            return Ok(Some(run_at.max(0)));
        }
        announce(tx, key, now, transition)?;
        *rest -= 1;
    }
    Ok(None)
}

/// Hands out once more the queued tasks whose announcement lies long back; tells whether one of them kept others waiting.
fn silent(tx: &Tx<'_>, due: &FindDue, woken: &[i64], rest: &mut u32, transition: &mut Transition) -> Written<bool> {
    let age = i64::try_from(due.reannounce.as_micros()).unwrap_or(i64::MAX);
    let before = micros(due.now).saturating_sub(age).min(HELD - 1);
    let sql = "SELECT key FROM tasks \
         WHERE status < 3 AND status = 0 AND announced_at <= ?1 ORDER BY announced_at LIMIT ?2";
    let mut lapsed = false;
    for key in tx.keys(sql, params![before, *rest])? {
        if woken.contains(&key) {
            continue;
        }
        if let Some(task) = announce(tx, key, due.now, transition)? {
            lapsed |= tx.leases.gates().lapse(task);
        }
        *rest -= 1;
    }
    Ok(lapsed)
}

fn announce(tx: &Tx<'_>, key: i64, now: Timestamp, transition: &mut Transition) -> Written<Option<TaskId>> {
    let sql = "UPDATE tasks SET announced_at = ?2 WHERE key = ?1";
    tx.execute(sql, params![key, micros(now)])?;
    let head = tx.statement(crate::rows::HEAD_BY_KEY)?.query_row(params![key], |row| Ok(crate::rows::head(row)));
    let Some(head) = head.optional()?.transpose()? else { return Ok(None) };
    transition.ready.push(head.ready());
    Ok(Some(head.id))
}
