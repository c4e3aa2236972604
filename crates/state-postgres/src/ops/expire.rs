//! Fails tasks whose time is over while no worker holds them.

use async_trait::async_trait;
use domain::{Failure, FailureKind, TaskStatus, Timestamp};
use state::ExpireOutcome;

use crate::fault::Written;
use crate::tx::{End, Tx};
use crate::writer::Write;
use state::codec::micros;

/// Fails at most `limit` tasks; those that somebody has to do with just now are left for the next time.
pub(crate) struct Expire {
    pub(crate) now: Timestamp,
    pub(crate) limit: u32,
}

#[async_trait]
impl Write for Expire {
    type Output = ExpireOutcome;

    async fn apply(&self, tx: &mut Tx<'_>) -> Written<ExpireOutcome> {
        let mut outcome = ExpireOutcome::default();
        let not_started = "SELECT key FROM tasks WHERE expires_at IS NOT NULL AND started_at IS NULL AND status = 0 \
             AND expires_at <= $1 ORDER BY expires_at, key LIMIT $2 FOR UPDATE SKIP LOCKED";
        self.fail(tx, not_started, FailureKind::Expired, &mut outcome).await?;
        let late = "SELECT key FROM tasks WHERE deadline IS NOT NULL AND status IN (0, 2) \
             AND deadline <= $1 ORDER BY deadline, key LIMIT $2 FOR UPDATE SKIP LOCKED";
        self.fail(tx, late, FailureKind::DeadlineExceeded, &mut outcome).await?;
        Ok(outcome)
    }
}

impl Expire {
    async fn fail(
        &self,
        tx: &mut Tx<'_>,
        sql: &'static str,
        kind: FailureKind,
        outcome: &mut ExpireOutcome,
    ) -> Written<()> {
        let rest = self.limit.saturating_sub(outcome.expired);
        for key in tx.keys(sqlx::query(sql).bind(micros(self.now)).bind(i64::from(rest))).await? {
            let head = tx.head_at(key).await?;
            // A sub-task may have been stopped by its parent's end just before.
            if !matches!(head.status, TaskStatus::Queued | TaskStatus::Waiting) {
                continue;
            }
            let message = match kind {
                FailureKind::Expired => "no worker had started it when its time to live was over",
                _ => "it had not ended at its deadline",
            };
            let end = End::failed(Failure::new(kind, message));
            tx.end(&head, end, self.now, &mut outcome.transition).await?;
            outcome.expired += 1;
        }
        Ok(())
    }
}
