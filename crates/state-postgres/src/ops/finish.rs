//! Ends a task in its worker's name.

use async_trait::async_trait;
use domain::{Failure, Lease, TaskStatus, Usage};
use sqlx::Row as _;
use state::{Finish, Outcome, StateError, Transition};

use super::append::append;
use crate::fault::Written;
use crate::tx::{EncodedStep, End, Tx};
use crate::writer::Write;
use state::codec::{Body, message_key, micros};

/// Ends a task under a lease.
pub(crate) struct FinishTask {
    pub(crate) lease: Lease,
    pub(crate) steps: Vec<EncodedStep>,
    pub(crate) status: TaskStatus,
    pub(crate) failure: Option<Failure>,
    pub(crate) usage: Usage,
    messages: Vec<(&'static str, Body)>,
    pub(crate) at: domain::Timestamp,
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
    async fn is_repeated(&self, tx: &mut Tx<'_>) -> Written<bool> {
        let Some(head) = tx.head(self.lease.task).await? else { return Ok(false) };
        Ok(head.epoch == self.lease.epoch && head.status == self.status && head.failure == self.failure)
    }
}

#[async_trait]
impl Write for FinishTask {
    type Output = Transition;

    async fn apply(&self, tx: &mut Tx<'_>) -> Written<Transition> {
        let lease = self.lease;
        let mut transition = Transition::default();
        let Some(owned) = tx.held(lease).await? else {
            if self.is_repeated(tx).await? {
                return Ok(transition);
            }
            return Err(StateError::LeaseLost { task: lease.task, epoch: lease.epoch }.into());
        };
        append(tx, lease, &owned, &self.steps).await?;
        let head = tx.head_at(owned.key).await?;
        if let Some(thread_key) = head.thread_key {
            say(tx, thread_key, self).await?;
        }
        let end = End { status: self.status, failure: self.failure.clone(), usage: Some(self.usage) };
        tx.end(&head, end, self.at, &mut transition).await?;
        failpoint::hit("C17");
        Ok(transition)
    }
}

/// Adds the task's messages to its thread.
async fn say(tx: &mut Tx<'_>, thread_key: i64, finish: &FinishTask) -> Written<()> {
    if finish.messages.is_empty() {
        return Ok(());
    }
    let sql = "UPDATE threads SET messages = messages + $2 WHERE key = $1 RETURNING messages";
    let count = finish.messages.len() as u64;
    let counted = sqlx::query(sql).bind(thread_key).bind(count as i64).fetch_one(&mut *tx.conn).await?;
    let first = (counted.try_get::<i64, _>(0)? as u64).saturating_sub(count) + 1;
    let sql = "INSERT INTO thread_messages (key, task, role, at, enc, body) VALUES ($1, $2, $3, $4, $5, $6)";
    for (seq, (role, body)) in (first..).zip(&finish.messages) {
        let insert = sqlx::query(sql).bind(message_key(thread_key, seq)).bind(finish.lease.task.0).bind(*role);
        tx.execute(insert.bind(micros(finish.at)).bind(body.enc).bind(&body.bytes)).await?;
    }
    Ok(())
}
