//! What a person asks of a task: to stop, or to try again.

use async_trait::async_trait;
use domain::{Namespace, StepBody, TaskId, TaskStatus, Timestamp};
use state::{Cancelled, StateError, Transition};

use crate::fault::Written;
use crate::rows::{self, Head};
use crate::tx::{BLOCKED, Tx};
use crate::writer::Write;
use state::codec::{micros, step_place};

/// Asks a task to stop.
pub(crate) struct CancelTask {
    pub(crate) namespace: Namespace,
    pub(crate) task: TaskId,
}

#[async_trait]
impl Write for CancelTask {
    type Output = Cancelled;

    async fn apply(&self, tx: &mut Tx<'_>) -> Written<Cancelled> {
        let mut transition = Transition::default();
        let head = tx.head_in(&self.namespace, self.task).await?;
        if head.status.is_terminal() {
            return Err(StateError::Ended { task: self.task, status: head.status }.into());
        }
        let now = tx.clock.now();
        tx.stop(&head, now, &mut transition).await?;
        Ok(Cancelled { task: tx.known_task(self.task).await?, transition })
    }

    async fn done_before(&self, tx: &mut Tx<'_>) -> Written<Option<Cancelled>> {
        let head = tx.head_in(&self.namespace, self.task).await?;
        if head.status != TaskStatus::Cancelled {
            return Ok(None);
        }
        Ok(Some(Cancelled { task: tx.known_task(self.task).await?, transition: Transition::default() }))
    }
}

/// Queues a failed or cancelled task again.
pub(crate) struct RetryTask {
    pub(crate) namespace: Namespace,
    pub(crate) task: TaskId,
    pub(crate) keep_journal: bool,
}

#[async_trait]
impl Write for RetryTask {
    type Output = Transition;

    async fn apply(&self, tx: &mut Tx<'_>) -> Written<Transition> {
        let head = tx.head_in(&self.namespace, self.task).await?;
        let conflict =
            |reason: &'static str| StateError::Conflict { task: self.task, status: head.status, reason: reason.into() };
        if !matches!(head.status, TaskStatus::Failed | TaskStatus::Cancelled) {
            return Err(conflict("only a failed or cancelled task can be retried").into());
        }
        if let Some(parent) = &head.parent {
            let parent = tx.head(parent.task).await?;
            let parent_lives = parent.is_none_or(|parent| !parent.status.is_terminal());
            if head.told || !parent_lives {
                return Err(conflict("its parent has gone on without it; retry the parent").into());
            }
        }
        let now = tx.clock.now();
        let mut transition = Transition::default();
        tx.append_own(head.key, &StepBody::Retried { keep_journal: self.keep_journal }, now).await?;
        // Limits of time that have passed belong to the life that ended.
        let sql = "UPDATE tasks SET attempt = 0, losses = 0, failure = NULL, finished_at = NULL, \
             cancel_requested = false, expires_at = CASE WHEN expires_at > $2 THEN expires_at END, \
             deadline = CASE WHEN deadline > $2 THEN deadline END, started_at = CASE WHEN $3 THEN started_at END, \
             thread_seen = CASE WHEN $3 THEN thread_seen END WHERE key = $1";
        tx.execute(sqlx::query(sql).bind(head.key).bind(micros(now)).bind(self.keep_journal)).await?;
        if let Some(thread_key) = head.thread_key {
            hold_later(tx, thread_key, &head, now, &mut transition).await?;
        }
        tx.queue(&head, None, now, &mut transition).await?;
        Ok(transition)
    }

    async fn done_before(&self, tx: &mut Tx<'_>) -> Written<Option<Transition>> {
        let head = tx.head_in(&self.namespace, self.task).await?;
        if head.status != TaskStatus::Queued {
            return Ok(None);
        }
        let last = tx.next_seq(head.key).await?.saturating_sub(1);
        let journal = sqlx::query(rows::JOURNAL).bind(step_place(head.key, last)).bind(step_place(head.key + 1, 0));
        let Some(row) = journal.fetch_optional(&mut *tx.conn).await? else { return Ok(None) };
        let retried = StepBody::Retried { keep_journal: self.keep_journal };
        Ok((rows::raw_step(&row)?.decode()?.body == retried).then(Transition::default))
    }
}

/// Puts a task before the later ones of its thread again, which wait for no gate meanwhile.
async fn hold_later(
    tx: &mut Tx<'_>,
    thread_key: i64,
    head: &Head,
    now: Timestamp,
    transition: &mut Transition,
) -> Written<()> {
    let sql = "SELECT key FROM tasks \
         WHERE thread_key = $1 AND thread_key IS NOT NULL AND status < 3 AND status = 0 AND key > $2 ORDER BY key";
    let later = tx.keys(sqlx::query(sql).bind(thread_key).bind(head.key)).await?;
    for head in tx.heads(&later).await? {
        if head.has_gates {
            tx.leave_gates(head.id, now, transition).await?;
        }
    }
    let sql = "UPDATE tasks SET announced_at = $2 WHERE key = ANY($1)";
    tx.execute(sqlx::query(sql).bind(later).bind(BLOCKED)).await?;
    Ok(())
}
