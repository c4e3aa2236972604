//! What opening a data directory makes of the one that left it: every lease died with its process.

use std::collections::HashMap;

use domain::{Failure, FailureKind, StepBody, TaskId, Terms, WorkerId};
use rusqlite::params;
use state::{StateError, Transition};

use crate::fault::Written;
use crate::leases::{Held, Payer};
use crate::ops::{budget, gates};
use crate::rows::{self, Head};
use crate::tx::{End, Tx};
use state::codec::status_column;

/// Losses without a step in between after which a task is taken for the cause.
const MAX_LOSSES: u32 = 5;

/// Queues again what was running, and makes every queued task be announced anew.
pub(crate) fn recover(tx: &Tx<'_>) -> Written<usize> {
    let now = tx.clock.now();
    let keys = tx.keys("SELECT key FROM tasks WHERE status < 3 AND status = 1 ORDER BY key", [])?;
    for head in tx.heads(&keys)? {
        // A sub-task may have been ended by what happened to its parent just before.
        if tx.head_at(head.key)?.status == head.status {
            lose(tx, &head, MAX_LOSSES, now, &mut Transition::default())?;
        }
    }
    budget::forfeit_all(tx)?;
    let called = gates::called(tx)?;
    tx.clear_announcements()?;
    gates::recover(tx, keys.iter().copied().chain(called), now)?;
    // A claim may have been answered without ever becoming durable: its epoch is not given again, or what its worker
    // had streamed would pass for what the next one says.
    tx.execute("UPDATE tasks SET epoch = epoch + 1 WHERE status < 3 AND status = 0", [])?;
    Ok(keys.len())
}

/// Takes a running task away from its worker: it is queued again, ends because it was asked to, or fails for good.
pub(crate) fn lose(
    tx: &Tx<'_>,
    head: &Head,
    max_losses: u32,
    now: domain::Timestamp,
    transition: &mut Transition,
) -> Written<()> {
    let losses = head.losses.saturating_add(1);
    let worker = head.worker.unwrap_or(WorkerId(uuid::Uuid::nil()));
    tx.append_own(head.key, &StepBody::LeaseLost { worker }, now)?;
    tx.execute("UPDATE tasks SET losses = ?2 WHERE key = ?1", params![head.key, losses])?;
    // The row knows a wish that came after `head` was read.
    if tx.head_at(head.key)?.cancel {
        return tx.end(head, End::cancelled(), now, transition);
    }
    if losses < max_losses {
        return tx.queue(head, None, now, transition);
    }
    let message = format!("{losses} workers fell silent one after another while they held the task");
    tx.end(head, End::failed(Failure::new(FailureKind::WorkerLost, message)), now, transition)
}

/// Reads the leases that are held, and their places at gates, again from the record.
pub(crate) fn reload_leases(tx: &Tx<'_>) -> Written<()> {
    let sql = "SELECT key, id, epoch, worker, cancel_requested, losses, terms, namespace, \
         (SELECT count(*) FROM reservations WHERE task_key = tasks.key) FROM tasks WHERE status < 3 AND status = ?1";
    let mut found = HashMap::new();
    let mut statement = tx.statement(sql)?;
    let mut running = statement.query(params![status_column(domain::TaskStatus::Running)])?;
    while let Some(row) = running.next()? {
        let key = row.get(0)?;
        let task = TaskId(rows::uuid(row, 1)?);
        let terms: Terms = rows::json_or_none(row, 6, "terms")?.unwrap_or_default();
        let namespace = rows::namespace(row, 7)?;
        let held = Held {
            key,
            epoch: row.get(2)?,
            worker: WorkerId(rows::uuid(row, 3)?),
            beat: 0,
            cancel: row.get(4)?,
            losses: row.get(5)?,
            next_seq: tx.next_seq(key)?,
            // To be on the safe side: only the way is longer.
            related: true,
            payer: Payer::of(&namespace, &terms.accounts),
            reserved: row.get(8)?,
        };
        found.insert(task, held);
    }
    tx.leases.replace(found);
    gates::reload(tx)
}

/// Runs `recover` in a transaction of its own.
pub(crate) fn run(tx: &Tx<'_>) -> Result<usize, StateError> {
    let recovered = tx.execute("BEGIN IMMEDIATE", []).and_then(|_| {
        let recovered = recover(tx)?;
        tx.execute("COMMIT", [])?;
        gates::reload(tx)?;
        Ok(recovered)
    });
    recovered.map_err(|fault| match fault.into_error() {
        StateError::Corrupt(why) => StateError::Corrupt(format!("the unfinished tasks could not be taken up: {why}")),
        other => other,
    })
}
