//! Ends a task in its worker's name.

use domain::{Failure, Lease, TaskStatus, Usage};
use rusqlite::params;
use state::{Finish, Outcome, StateError, Transition};

use super::append::append;
use crate::fault::Written;
use crate::tx::{EncodedStep, End, Tx};
use crate::writer::Write;
use state::codec::{Body, message_key, micros};

/// Ends a task under a lease.
pub(crate) struct FinishTask {
    lease: Lease,
    steps: Vec<EncodedStep>,
    status: TaskStatus,
    failure: Option<Failure>,
    usage: Usage,
    messages: Vec<(&'static str, Body)>,
    at: domain::Timestamp,
}

impl FinishTask {
    /// Encodes what is to be stored.
    pub(crate) fn encode(lease: Lease, finish: Finish, threshold: usize) -> Result<Self, StateError> {
        let Finish { steps, outcome, usage, messages, at } = finish;
        let (status, failure) = match outcome {
            Outcome::Succeeded => (TaskStatus::Succeeded, None),
            Outcome::Failed(failure) => (TaskStatus::Failed, Some(failure)),
            Outcome::Cancelled => (TaskStatus::Cancelled, None),
        };
        let encode =
            |message: state::NewThreadMessage| Ok((message.role, Body::encode(&message.text, threshold, "a message")?));
        Ok(Self {
            lease,
            steps: EncodedStep::encode_all(&steps, threshold)?,
            status,
            failure,
            usage,
            messages: messages.into_iter().map(encode).collect::<Result<_, StateError>>()?,
            at,
        })
    }

    /// Tells whether this very call ended the task before and its answer was lost.
    fn is_repeated(&self, tx: &Tx<'_>) -> Written<bool> {
        let Some(head) = tx.head(self.lease.task)? else { return Ok(false) };
        Ok(head.epoch == self.lease.epoch && head.status == self.status && head.failure == self.failure)
    }
}

impl Write for FinishTask {
    type Output = Transition;

    fn guarded(&self, tx: &Tx<'_>) -> bool {
        tx.leases.get(self.lease).is_some_and(|held| held.related)
    }

    fn apply(self, tx: &Tx<'_>) -> Written<Transition> {
        let lease = self.lease;
        let mut transition = Transition::default();
        let Some(owned) = tx.leases.get(lease) else {
            if self.is_repeated(tx)? {
                return Ok(transition);
            }
            return Err(StateError::LeaseLost { task: lease.task, epoch: lease.epoch }.into());
        };
        append(tx, lease, &owned, &self.steps)?;
        if owned.related {
            let head = tx.head_at(owned.key)?;
            if let Some(thread_key) = head.thread_key {
                say(tx, thread_key, &self)?;
            }
            let end = End { status: self.status, failure: self.failure, usage: Some(self.usage) };
            tx.end(&head, end, self.at, &mut transition)?;
        } else {
            // Nobody hears of it: one statement says it all.
            let from = (owned.key, TaskStatus::Running, lease.epoch);
            if tx.write_end(from, self.status, self.failure.as_ref(), self.usage, self.at)? != 1 {
                tx.leases.remove(lease.task);
                return Err(StateError::LeaseLost { task: lease.task, epoch: lease.epoch }.into());
            }
            tx.end_lease(lease.task, self.at, &mut transition)?;
            transition.ended.push((lease.task, self.status));
        }
        failpoint::hit("C17");
        Ok(transition)
    }
}

/// Adds the task's messages to its thread.
fn say(tx: &Tx<'_>, thread_key: i64, finish: &FinishTask) -> Written<()> {
    if finish.messages.is_empty() {
        return Ok(());
    }
    let sql = "UPDATE threads SET messages = messages + ?2 WHERE key = ?1 RETURNING messages";
    let count = finish.messages.len() as u64;
    let last: i64 = tx.statement(sql)?.query_row(params![thread_key, count as i64], |row| row.get(0))?;
    let first = (last as u64).saturating_sub(count) + 1;
    let sql = "INSERT INTO thread_messages (key, task, role, at, enc, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let mut insert = tx.statement(sql)?;
    for (seq, (role, body)) in (first..).zip(&finish.messages) {
        let task = finish.lease.task.0.as_bytes();
        insert.execute(params![message_key(thread_key, seq), task, role, micros(finish.at), body.enc, body.bytes])?;
    }
    Ok(())
}
