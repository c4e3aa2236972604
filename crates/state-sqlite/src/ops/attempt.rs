//! A worker gives a task back: after a failure that another attempt may mend, or unfinished.

use domain::{Lease, StepBody};
use rusqlite::params;
use state::{AttemptFailed, StateError, Transition};

use super::append::{append, held};
use crate::fault::Written;
use crate::tx::{EncodedStep, End, Tx};
use crate::writer::Write;
use state::codec::{micros, stored_time};

/// Counts a failed attempt and queues the task for the next one.
pub(crate) struct FailAttempt {
    pub(crate) lease: Lease,
    pub(crate) failed: AttemptFailed,
}

impl Write for FailAttempt {
    type Output = Transition;

    fn apply(self, tx: &Tx<'_>) -> Written<Transition> {
        let Self { lease, failed } = self;
        let AttemptFailed { seq, at, failure, retry_at } = failed;
        let retry_at = stored_time(retry_at);
        let mut transition = Transition::default();
        let owned = held(tx, lease)?;
        let head = tx.head_at(owned.key)?;
        if head.cancel {
            tx.end(&head, End::cancelled(), at, &mut transition)?;
            return Ok(transition);
        }
        let attempt = head.attempt.saturating_add(1);
        let body = StepBody::AttemptFailed { attempt, failure, retry_at };
        if seq != owned.next_seq {
            return Err(StateError::StepConflict { task: lease.task, seq }.into());
        }
        append(tx, lease, &owned, &[EncodedStep::of(seq, micros(at), &body, tx.threshold)?])?;
        tx.execute("UPDATE tasks SET attempt = ?2 WHERE key = ?1", params![head.key, attempt])?;
        tx.queue(&head, Some(retry_at), at, &mut transition)?;
        Ok(transition)
    }
}

/// Gives a task back unfinished.
pub(crate) struct Release(pub(crate) Lease);

impl Write for Release {
    type Output = Transition;

    fn apply(self, tx: &Tx<'_>) -> Written<Transition> {
        let mut transition = Transition::default();
        let owned = held(tx, self.0)?;
        let head = tx.head_at(owned.key)?;
        let now = tx.clock.now();
        if head.cancel {
            tx.end(&head, End::cancelled(), now, &mut transition)?;
        } else {
            tx.queue(&head, None, now, &mut transition)?;
        }
        Ok(transition)
    }
}
