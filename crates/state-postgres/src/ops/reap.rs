//! Takes leases away that nobody renewed.

use async_trait::async_trait;
use domain::{Failure, FailureKind, StepBody, Timestamp, WorkerId};
use state::{LeaseBeat, Transition};

use crate::fault::Written;
use crate::rows::Head;
use crate::tx::{End, Tx};
use crate::writer::Write;

/// Reaps these leases, unless they were renewed after they were read.
pub(crate) struct Reap {
    pub(crate) leases: Vec<LeaseBeat>,
    pub(crate) max_losses: u32,
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Write for Reap {
    type Output = Transition;

    async fn apply(&self, tx: &mut Tx<'_>) -> Written<Transition> {
        let mut transition = Transition::default();
        for beat in &self.leases {
            // The row is locked before it is judged: a renewal that came first has changed it by then, and one that comes
            // later finds the lease lost.
            let sql = "SELECT key FROM tasks WHERE id = $1 AND status = 1 AND epoch = $2 AND worker = $3 AND beat = $4 \
                 FOR UPDATE";
            let silent = sqlx::query(sql)
                .bind(beat.lease.task.0)
                .bind(i64::from(beat.lease.epoch))
                .bind(beat.worker.0)
                .bind(beat.beat as i64);
            let Some(key) = tx.keys(silent).await?.pop() else { continue };
            failpoint::hit("C27");
            let head = tx.head_at(key).await?;
            lose(tx, &head, self.max_losses, self.now, &mut transition).await?;
        }
        Ok(transition)
    }
}

/// Takes a running task away from its worker: it is queued again, ends because it was asked to, or fails for good.
async fn lose(
    tx: &mut Tx<'_>,
    head: &Head,
    max_losses: u32,
    now: Timestamp,
    transition: &mut Transition,
) -> Written<()> {
    let losses = head.losses.saturating_add(1);
    let worker = head.worker.unwrap_or(WorkerId(uuid::Uuid::nil()));
    tx.append_own(head.key, &StepBody::LeaseLost { worker }, now).await?;
    let sql = "UPDATE tasks SET losses = $2 WHERE key = $1";
    tx.execute(sqlx::query(sql).bind(head.key).bind(i64::from(losses))).await?;
    if head.cancel {
        return tx.end(head, End::cancelled(), now, transition).await;
    }
    if losses < max_losses {
        return tx.queue(head, None, now, transition).await;
    }
    let message = format!("{losses} workers fell silent one after another while they held the task");
    tx.end(head, End::failed(Failure::new(FailureKind::WorkerLost, message)), now, transition).await
}
