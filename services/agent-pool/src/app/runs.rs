//! The runs of this worker, so that a lease that was lost, a cancellation or a stop finds the right one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use agent::{RunControl, RunEnd};
use domain::{Lease, TaskId, Timestamp};

use super::recent::{Recent, Whose};

/// The runs of this worker.
#[derive(Default)]
pub(crate) struct Runs {
    held: Mutex<HashMap<TaskId, (u32, RunControl)>>,
    counts: Counters,
    recent: Mutex<Recent>,
}

#[derive(Default)]
struct Counters {
    claimed: AtomicU64,
    missed: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    parked: AtomicU64,
    retried: AtomicU64,
    released: AtomicU64,
    dropped: AtomicU64,
    busy_ms: AtomicU64,
}

/// What this worker has done since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct RunCounts {
    /// Runs that it has now.
    pub running: u64,
    /// Tasks that it claimed.
    pub claimed: u64,
    /// Announcements whose task was already taken or had ended.
    pub missed: u64,
    /// Runs that ended with an answer.
    pub succeeded: u64,
    /// Runs that failed for good.
    pub failed: u64,
    /// Runs that were stopped.
    pub cancelled: u64,
    /// Runs that began to wait.
    pub parked: u64,
    /// Attempts that failed and will be followed by another.
    pub retried: u64,
    /// Runs that were given back.
    pub released: u64,
    /// Runs that were dropped because their lease was lost.
    pub dropped: u64,
    /// Time spent in runs, in milliseconds.
    pub busy_ms: u64,
}

impl Runs {
    pub(crate) fn begin(&self, lease: Lease, whose: Whose, control: RunControl, now: Timestamp) {
        self.counts.claimed.fetch_add(1, Ordering::Relaxed);
        self.recent().begin(lease, whose, now);
        self.lock().insert(lease.task, (lease.epoch, control));
    }

    pub(crate) fn end(&self, lease: Lease, end: RunEnd, took: Duration, now: Timestamp) {
        self.recent().end(lease, end, took, now);
        let mut held = self.lock();
        if held.get(&lease.task).is_some_and(|(epoch, _)| *epoch == lease.epoch) {
            held.remove(&lease.task);
        }
        drop(held);
        let counter = match end {
            RunEnd::Succeeded => &self.counts.succeeded,
            RunEnd::Failed => &self.counts.failed,
            RunEnd::Cancelled => &self.counts.cancelled,
            RunEnd::Parked => &self.counts.parked,
            RunEnd::Retried => &self.counts.retried,
            RunEnd::Released => &self.counts.released,
            RunEnd::Dropped => &self.counts.dropped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.counts.busy_ms.fetch_add(took.as_millis() as u64, Ordering::Relaxed);
    }

    pub(crate) fn miss(&self) {
        self.counts.missed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn leases(&self) -> Vec<Lease> {
        self.lock().iter().map(|(task, (epoch, _))| Lease { task: *task, epoch: *epoch }).collect()
    }

    /// Asks a run to end as cancelled.
    pub(crate) fn cancel(&self, task: TaskId) {
        if let Some((_, control)) = self.lock().get(&task) {
            control.cancel.cancel();
        }
    }

    /// Has a run dropped whose lease was lost.
    pub(crate) fn drop_lost(&self, lease: Lease) {
        if let Some((epoch, control)) = self.lock().get(&lease.task)
            && *epoch == lease.epoch
        {
            control.abort.cancel();
        }
    }

    /// Has every run dropped.
    pub(crate) fn drop_all(&self) {
        for (_, control) in self.lock().values() {
            control.abort.cancel();
        }
    }

    /// Has every run given back at its next step.
    pub(crate) fn release_all(&self) {
        for (_, control) in self.lock().values() {
            control.release.cancel();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    pub(crate) fn counts(&self) -> RunCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RunCounts {
            running: self.lock().len() as u64,
            claimed: read(&self.counts.claimed),
            missed: read(&self.counts.missed),
            succeeded: read(&self.counts.succeeded),
            failed: read(&self.counts.failed),
            cancelled: read(&self.counts.cancelled),
            parked: read(&self.counts.parked),
            retried: read(&self.counts.retried),
            released: read(&self.counts.released),
            dropped: read(&self.counts.dropped),
            busy_ms: read(&self.counts.busy_ms),
        }
    }

    /// What happened in the last minute.
    pub(crate) fn recent(&self) -> std::sync::MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TaskId, (u32, RunControl)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
