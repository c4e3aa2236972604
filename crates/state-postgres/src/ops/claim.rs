//! Gives a worker the lease of a task.

use async_trait::async_trait;
use domain::{StepBody, Task, TaskStatus};
use sqlx::Row as _;
use state::{Claim, Claimed, StateError};

use super::gates;
use crate::fault::Written;
use crate::rows::{self, RawMessage, RawStep, TaskRow};
use crate::tx::Tx;
use crate::writer::Write;
use state::codec::{message_key, micros, step_place, stored_time};

/// Claims one task.
pub(crate) struct ClaimTask(pub(crate) Claim);

/// A claimed task whose bodies are not decoded yet.
pub(crate) struct RawClaimed {
    pub(crate) task: Task,
    pub(crate) steps: Vec<RawStep>,
    pub(crate) thread: Vec<RawMessage>,
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

#[async_trait]
impl Write for ClaimTask {
    type Output = Option<RawClaimed>;

    fn guarded(&self) -> bool {
        false
    }

    async fn apply(&self, tx: &mut Tx<'_>) -> Written<Self::Output> {
        let Self(claim) = self;
        let Some(row) = tx.task(claim.task).await? else { return Ok(None) };
        if !is_timely(&row.task, claim) || !is_first(tx, &row).await? {
            return Ok(None);
        }
        if !row.task.terms.gates.is_empty() && !gates::admit(tx, &row, claim.now).await? {
            return Ok(None);
        }
        let TaskRow { key, task, thread_key, thread_seen, .. } = row;
        let journal = sqlx::query(rows::JOURNAL).bind(step_place(key, 0)).bind(step_place(key + 1, 0));
        let steps = journal.fetch_all(&mut *tx.conn).await?;
        let steps = steps.iter().map(rows::raw_step).collect::<Written<_>>()?;
        let (thread, thread_seen) = match thread_key {
            Some(thread_key) => {
                let seen = match thread_seen {
                    Some(seen) => seen,
                    None => last_message(tx, thread_key).await?,
                };
                (conversation(tx, thread_key, seen, claim.thread_messages).await?, Some(seen))
            }
            None => (Vec::new(), None),
        };
        let task = given(task, claim);
        let sql = "UPDATE tasks SET status = 1, epoch = $2, worker = $3, started_at = $4, thread_seen = $5, \
             announced_at = NULL, beat = 0 WHERE key = $1 AND status = 0";
        let update = sqlx::query(sql)
            .bind(key)
            .bind(i64::from(task.epoch))
            .bind(claim.worker.0)
            .bind(task.started_at.map(micros))
            .bind(thread_seen);
        tx.execute(update).await?;
        failpoint::hit("C10");
        Ok(Some(RawClaimed { task, steps, thread }))
    }
}

/// Tells whether the task waits for a worker and its time has come and is not over.
pub(crate) fn is_timely(task: &Task, claim: &Claim) -> bool {
    let expired = task.started_at.is_none() && task.expires_at.is_some_and(|at| at <= claim.now);
    let late = task.deadline.is_some_and(|at| at <= claim.now);
    let early = task.run_at.is_some_and(|at| at > claim.now);
    task.status == TaskStatus::Queued && !expired && !late && !early
}

/// The task as its worker gets it.
pub(crate) fn given(mut task: Task, claim: &Claim) -> Task {
    task.status = TaskStatus::Running;
    task.epoch += 1;
    task.worker = Some(claim.worker);
    task.started_at = task.started_at.or(Some(stored_time(claim.now)));
    task
}

/// Tells whether it is its turn in its thread: one at a time, in the order of submission.
async fn is_first(tx: &mut Tx<'_>, row: &TaskRow) -> Written<bool> {
    let Some(thread_key) = row.thread_key else { return Ok(true) };
    let sql = "SELECT 1 FROM tasks \
         WHERE thread_key = $1 AND status < 3 AND key <> $2 AND (status > 0 OR key < $2) LIMIT 1";
    Ok(!tx.exists(sqlx::query(sql).bind(thread_key).bind(row.key)).await?)
}

async fn last_message(tx: &mut Tx<'_>, thread_key: i64) -> Written<i64> {
    let sql = "SELECT messages FROM threads WHERE key = $1";
    Ok(sqlx::query(sql).bind(thread_key).fetch_one(&mut *tx.conn).await?.try_get(0)?)
}

async fn conversation(tx: &mut Tx<'_>, thread_key: i64, seen: i64, limit: u32) -> Written<Vec<RawMessage>> {
    let found = sqlx::query(rows::MESSAGES_BACKWARD)
        .bind(message_key(thread_key, 1))
        .bind(message_key(thread_key, seen as u64))
        .bind(i64::from(limit))
        .fetch_all(&mut *tx.conn)
        .await?;
    found.iter().rev().map(rows::raw_message).collect()
}
