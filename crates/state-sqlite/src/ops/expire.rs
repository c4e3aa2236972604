//! Fails tasks whose time is over while no worker holds them.

use domain::{Failure, FailureKind, TaskStatus, Timestamp};
use rusqlite::params;
use state::ExpireOutcome;

use crate::fault::Written;
use crate::tx::{End, Tx};
use crate::writer::Write;
use state::codec::micros;

/// Fails at most `limit` tasks.
pub(crate) struct Expire {
    pub(crate) now: Timestamp,
    pub(crate) limit: u32,
}

impl Write for Expire {
    type Output = ExpireOutcome;

    fn apply(self, tx: &Tx<'_>) -> Written<ExpireOutcome> {
        let mut outcome = ExpireOutcome::default();
        let not_started = "SELECT key FROM tasks WHERE expires_at IS NOT NULL AND started_at IS NULL AND status = 0 \
             AND expires_at <= ?1 ORDER BY expires_at LIMIT ?2";
        self.fail(tx, not_started, FailureKind::Expired, &mut outcome)?;
        let late = "SELECT key FROM tasks WHERE deadline IS NOT NULL AND status IN (0, 2) \
             AND deadline <= ?1 ORDER BY deadline LIMIT ?2";
        self.fail(tx, late, FailureKind::DeadlineExceeded, &mut outcome)?;
        Ok(outcome)
    }
}

impl Expire {
    fn fail(&self, tx: &Tx<'_>, sql: &str, kind: FailureKind, outcome: &mut ExpireOutcome) -> Written<()> {
        let rest = self.limit.saturating_sub(outcome.expired);
        for key in tx.keys(sql, params![micros(self.now), rest])? {
            let head = tx.head_at(key)?;
            // A sub-task may have been stopped by its parent's end just before.
            if !matches!(head.status, TaskStatus::Queued | TaskStatus::Waiting) {
                continue;
            }
            let message = match kind {
                FailureKind::Expired => "no worker had started it when its time to live was over",
                _ => "it had not ended at its deadline",
            };
            tx.end(&head, End::failed(Failure::new(kind, message)), self.now, &mut outcome.transition)?;
            outcome.expired += 1;
        }
        Ok(())
    }
}
