//! Gives a worker the lease of a task.

use domain::{StepBody, Task, TaskStatus};
use rusqlite::params;
use state::{Claim, Claimed, StateError};

use super::gates;
use crate::fault::Written;
use crate::leases::{Held, Payer};
use crate::rows::{self, RawMessage, RawStep, TaskRow};
use crate::tx::Tx;
use crate::writer::Write;
use state::codec::{message_key, micros, step_place, step_seq, stored_time};

/// Claims one task.
pub(crate) struct ClaimTask(pub(crate) Claim);

/// A claimed task whose bodies are not decoded yet.
pub(crate) struct RawClaimed {
    task: Task,
    steps: Vec<RawStep>,
    thread: Vec<RawMessage>,
}

impl RawClaimed {
    /// Decodes it, on the time of whoever asked.
    pub(crate) fn decode(self) -> Result<Claimed, StateError> {
        let steps = self.steps.iter().map(RawStep::decode).collect::<Result<Vec<_>, _>>()?;
        if !matches!(steps.first().map(|step| &step.body), Some(StepBody::Input(_))) {
            return Err(StateError::Corrupt(format!("the journal of task {} has no input", self.task.id)));
        }
        let thread = self.thread.into_iter().map(RawMessage::decode).collect::<Result<_, _>>()?;
        Ok(Claimed { task: self.task, steps, thread })
    }
}

impl Write for ClaimTask {
    type Output = Option<RawClaimed>;

    const LAZY: bool = true;
    fn guarded(&self, _tx: &Tx<'_>) -> bool {
        false
    }

    fn apply(self, tx: &Tx<'_>) -> Written<Self::Output> {
        let Self(claim) = self;
        let Some(row) = tx.task(claim.task)? else { return Ok(None) };
        if !claimable(tx, &row, &claim)? {
            return Ok(None);
        }
        if !row.task.terms.gates.is_empty() && !gates::admit(tx, &row, claim.now)? {
            return Ok(None);
        }
        let TaskRow { key, mut task, thread_key, thread_seen, losses } = row;
        let steps = journal(tx, key)?;
        let (thread, thread_seen) = match thread_key {
            Some(thread_key) => {
                let seen = match thread_seen {
                    Some(seen) => seen,
                    None => last_message(tx, thread_key)?,
                };
                (conversation(tx, thread_key, seen, claim.thread_messages)?, Some(seen))
            }
            None => (Vec::new(), None),
        };
        task.status = TaskStatus::Running;
        task.epoch += 1;
        task.worker = Some(claim.worker);
        task.started_at = task.started_at.or(Some(stored_time(claim.now)));
        let sql = "UPDATE tasks SET status = 1, epoch = ?2, worker = ?3, started_at = ?4, thread_seen = ?5, \
             announced_at = NULL WHERE key = ?1 AND status = 0";
        let started_at = task.started_at.map(micros);
        tx.execute(sql, params![key, task.epoch, claim.worker.0.as_bytes(), started_at, thread_seen])?;
        let held = Held {
            key,
            epoch: task.epoch,
            worker: claim.worker,
            beat: 0,
            cancel: false,
            losses,
            next_seq: steps.last().map_or(0, |step| step_seq(step.place) + 1),
            related: thread_key.is_some() || task.parent.is_some() || tx.has_children(task.id)?,
            payer: Payer::of(&task.namespace, &task.terms.accounts),
            reserved: 0,
        };
        tx.leases.insert(task.id, held);
        failpoint::hit("C10");
        Ok(Some(RawClaimed { task, steps, thread }))
    }
}

fn claimable(tx: &Tx<'_>, row: &TaskRow, claim: &Claim) -> Written<bool> {
    let task = &row.task;
    let expired = task.started_at.is_none() && task.expires_at.is_some_and(|at| at <= claim.now);
    let late = task.deadline.is_some_and(|at| at <= claim.now);
    let early = task.run_at.is_some_and(|at| at > claim.now);
    if task.status != TaskStatus::Queued || expired || late || early {
        return Ok(false);
    }
    let Some(thread_key) = row.thread_key else { return Ok(true) };
    // One at a time, in the order of submission.
    let sql = "SELECT 1 FROM tasks \
         WHERE thread_key = ?1 AND status < 3 AND key <> ?2 AND (status > 0 OR key < ?2) LIMIT 1";
    Ok(!tx.statement(sql)?.exists(params![thread_key, row.key])?)
}

fn journal(tx: &Tx<'_>, task_key: i64) -> Written<Vec<RawStep>> {
    let mut statement = tx.statement(rows::JOURNAL)?;
    let mut found = statement.query(params![step_place(task_key, 0), step_place(task_key + 1, 0)])?;
    let mut steps = Vec::new();
    while let Some(row) = found.next()? {
        steps.push(rows::raw_step(row)?);
    }
    Ok(steps)
}

fn last_message(tx: &Tx<'_>, thread_key: i64) -> Written<i64> {
    let sql = "SELECT messages FROM threads WHERE key = ?1";
    Ok(tx.statement(sql)?.query_row(params![thread_key], |row| row.get(0))?)
}

fn conversation(tx: &Tx<'_>, thread_key: i64, seen: i64, limit: u32) -> Written<Vec<RawMessage>> {
    let mut statement = tx.statement(rows::MESSAGES_BACKWARD)?;
    let range = params![message_key(thread_key, 1), message_key(thread_key, seen as u64), limit];
    let mut found = statement.query(range)?;
    let mut messages = Vec::new();
    while let Some(row) = found.next()? {
        messages.push(rows::raw_message(row)?);
    }
    messages.reverse();
    Ok(messages)
}
