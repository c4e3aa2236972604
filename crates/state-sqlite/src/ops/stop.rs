//! What a person asks of a task: to stop, or to try again.

use domain::{Namespace, StepBody, TaskId, TaskStatus};
use rusqlite::params;
use state::{Cancelled, StateError, Transition};

use crate::fault::Written;
use crate::tx::{BLOCKED, Tx};
use crate::writer::Write;
use state::codec::micros;

/// Asks a task to stop.
pub(crate) struct CancelTask {
    pub(crate) namespace: Namespace,
    pub(crate) task: TaskId,
}

impl Write for CancelTask {
    type Output = Cancelled;

    fn apply(self, tx: &Tx<'_>) -> Written<Cancelled> {
        let mut transition = Transition::default();
        let head = tx.head_in(&self.namespace, self.task)?;
        if head.status.is_terminal() {
            return Err(StateError::Ended { task: self.task, status: head.status }.into());
        }
        tx.stop(&head, tx.clock.now(), &mut transition)?;
        Ok(Cancelled { task: tx.known_task(self.task)?, transition })
    }
}

/// Queues a failed or cancelled task again.
pub(crate) struct RetryTask {
    pub(crate) namespace: Namespace,
    pub(crate) task: TaskId,
    pub(crate) keep_journal: bool,
}

impl Write for RetryTask {
    type Output = Transition;

    fn apply(self, tx: &Tx<'_>) -> Written<Transition> {
        let head = tx.head_in(&self.namespace, self.task)?;
        let conflict =
            |reason: &'static str| StateError::Conflict { task: self.task, status: head.status, reason: reason.into() };
        if !matches!(head.status, TaskStatus::Failed | TaskStatus::Cancelled) {
            return Err(conflict("only a failed or cancelled task can be retried").into());
        }
        if let Some(parent) = &head.parent {
            let parent_lives = tx.head(parent.task)?.is_none_or(|parent| !parent.status.is_terminal());
            if head.told || !parent_lives {
                return Err(conflict("its parent has gone on without it; retry the parent").into());
            }
        }
        let now = tx.clock.now();
        let mut transition = Transition::default();
        tx.append_own(head.key, &StepBody::Retried { keep_journal: self.keep_journal }, now)?;
        // Limits of time that have passed belong to the life that ended.
        let sql = "UPDATE tasks SET attempt = 0, losses = 0, failure = NULL, finished_at = NULL, cancel_requested = 0, \
             expires_at = iif(expires_at <= ?2, NULL, expires_at), deadline = iif(deadline <= ?2, NULL, deadline), \
             started_at = iif(?3, started_at, NULL), thread_seen = iif(?3, thread_seen, NULL) WHERE key = ?1";
        tx.execute(sql, params![head.key, micros(now), self.keep_journal])?;
        if let Some(thread_key) = head.thread_key {
            // It goes before the later ones of its thread again, which wait for no gate meanwhile.
            let sql = "SELECT key FROM tasks \
                 WHERE thread_key = ?1 AND thread_key IS NOT NULL AND status < 3 AND status = 0 AND key > ?2";
            for later in tx.keys(sql, params![thread_key, head.key])? {
                tx.leave_gates(tx.head_at(later)?.id, now, &mut transition)?;
            }
            let sql = "UPDATE tasks SET announced_at = ?3 \
                 WHERE thread_key = ?1 AND thread_key IS NOT NULL AND status < 3 AND status = 0 AND key > ?2";
            tx.execute(sql, params![thread_key, head.key, BLOCKED])?;
        }
        tx.queue(&head, None, now, &mut transition)?;
        Ok(transition)
    }
}
