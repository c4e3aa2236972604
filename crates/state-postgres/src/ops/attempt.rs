//! A worker gives a task back: after a failure that another attempt may mend, or unfinished.

use async_trait::async_trait;
use domain::{Lease, StepBody, TaskStatus};
use sqlx::Row as _;
use state::{AttemptFailed, StateError, Transition};

use super::append::{append, held};
use crate::fault::Written;
use crate::tx::{EncodedStep, End, Tx};
use crate::writer::Write;
use state::codec::{micros, step_place, stored_time};

/// Counts a failed attempt and queues the task for the next one.
pub(crate) struct FailAttempt {
    pub(crate) lease: Lease,
    pub(crate) failed: AttemptFailed,
}

#[async_trait]
impl Write for FailAttempt {
    type Output = Transition;

    async fn apply(&self, tx: &mut Tx<'_>) -> Written<Transition> {
        let Self { lease, failed } = self;
        let AttemptFailed { seq, at, failure, retry_at } = failed;
        let retry_at = stored_time(*retry_at);
        let mut transition = Transition::default();
        let owned = held(tx, *lease).await?;
        let head = tx.head_at(owned.key).await?;
        if head.cancel {
            tx.end(&head, End::cancelled(), *at, &mut transition).await?;
            return Ok(transition);
        }
        let attempt = head.attempt.saturating_add(1);
        let body = StepBody::AttemptFailed { attempt, failure: failure.clone(), retry_at };
        if *seq != owned.next_seq {
            return Err(StateError::StepConflict { task: lease.task, seq: *seq }.into());
        }
        append(tx, *lease, &owned, &[EncodedStep::of(*seq, micros(*at), &body, tx.threshold)?]).await?;
        let sql = "UPDATE tasks SET attempt = $2 WHERE key = $1";
        tx.execute(sqlx::query(sql).bind(head.key).bind(i64::from(attempt))).await?;
        tx.queue(&head, Some(retry_at), *at, &mut transition).await?;
        Ok(transition)
    }

    async fn done_before(&self, tx: &mut Tx<'_>) -> Written<Option<Transition>> {
        let lease = self.lease;
        let Some(head) = tx.head(lease.task).await? else { return Ok(None) };
        let cancelled = head.epoch == lease.epoch && head.status == TaskStatus::Cancelled;
        let done = cancelled || wrote(tx, head.key, self.failed.seq, lease).await?;
        Ok(done.then(Transition::default))
    }
}

/// Tells whether a step was written under a lease that the writer gave up with it.
pub(crate) async fn wrote(tx: &mut Tx<'_>, task_key: i64, seq: u32, lease: Lease) -> Written<bool> {
    if tx.held(lease).await?.is_some() {
        return Ok(false);
    }
    let sql = "SELECT epoch FROM steps WHERE place = $1";
    let found = sqlx::query(sql).bind(step_place(task_key, seq)).fetch_optional(&mut *tx.conn).await?;
    let Some(found) = found else { return Ok(false) };
    Ok(found.try_get::<i64, _>(0)? == i64::from(lease.epoch))
}

/// Gives a task back unfinished.
pub(crate) struct Release(pub(crate) Lease);

#[async_trait]
impl Write for Release {
    type Output = Transition;

    async fn apply(&self, tx: &mut Tx<'_>) -> Written<Transition> {
        let mut transition = Transition::default();
        let owned = held(tx, self.0).await?;
        let head = tx.head_at(owned.key).await?;
        let now = tx.clock.now();
        if head.cancel {
            tx.end(&head, End::cancelled(), now, &mut transition).await?;
        } else {
            tx.queue(&head, None, now, &mut transition).await?;
        }
        Ok(transition)
    }

    async fn done_before(&self, tx: &mut Tx<'_>) -> Written<Option<Transition>> {
        let head = tx.head(self.0.task).await?;
        let done = head.is_some_and(|head| head.epoch == self.0.epoch && head.status != TaskStatus::Running);
        Ok(done.then(Transition::default))
    }
}
