//! One worker process: claims what is ready and runs it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use agent::{Announcer, Driver, RunControl, RunEnd};
use bus::Delivery;
use domain::{Clock, ExecutionMode, WorkerId};
use futures::FutureExt;
use state::{Claim, State};

use super::Runs;

/// How many of a thread's messages a claim fetches; an agent's `memory.thread_messages` allows no more.
const THREAD_MESSAGES: u32 = 1_000;
/// How long a hint is kept whose task could not be claimed because the record is away: without a pause the hints would
/// spin between queue and pools until it is back.
const HAND_BACK_AFTER: Duration = Duration::from_secs(1);

/// One worker process.
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) mode: ExecutionMode,
    pub(crate) state: Arc<dyn State>,
    pub(crate) announcer: Announcer,
    pub(crate) driver: Driver,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) runs: Runs,
}

impl Worker {
    /// Claims a task that was announced, and runs it. A task that somebody else took is not an error, nor is one that the
    /// record does not know: the record may be older than the queue after a restore.
    pub(crate) async fn take(&self, delivery: Delivery) {
        failpoint::hit("C09");
        let task = delivery.task.task;
        let claim = Claim { task, worker: self.id, now: self.clock.now(), thread_messages: THREAD_MESSAGES };
        let claimed = match self.state.claim(claim).await {
            Ok(Some(claimed)) => claimed,
            Ok(None) => {
                delivery.done();
                return self.runs.miss();
            }
            Err(error) => {
                tracing::warn!(task.id = %task, error = %error, "claim failed");
                tokio::time::sleep(HAND_BACK_AFTER).await;
                return drop(delivery);
            }
        };
        failpoint::hit("C10");
        delivery.done();
        let lease = claimed.lease();
        let control = RunControl::default();
        let whose = (claimed.task.namespace.clone(), claimed.task.agent.clone());
        self.runs.begin(lease, whose, control.clone(), self.clock.now());
        if claimed.task.cancel_requested {
            control.cancel.cancel();
        }
        self.announcer.running(&claimed.task);
        let started = self.clock.monotonic();
        // A defect in a tool or an adapter costs one run, not the worker; the lease runs out and the losses are counted.
        let end = AssertUnwindSafe(self.driver.run(claimed, &control)).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(task.id = %lease.task, epoch = lease.epoch, "run panicked and was dropped");
            RunEnd::Dropped
        });
        self.runs.end(lease, end, self.clock.monotonic().saturating_sub(started), self.clock.now());
    }
}
