//! How many tasks may be queued: beyond that, refusing is kinder than accepting what nobody will do in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::{Clock, TaskStatus};
use state::{State, StateError, StateStats};

/// A count is not repeated more often than this, however many requests find no room.
const RECOUNT: Duration = Duration::from_secs(1);

/// Estimates the queued tasks: the last count and what came in since. Only an estimate that says "full" is verified.
pub(super) struct Room {
    limit: u64,
    queued: AtomicU64,
    counted: tokio::sync::Mutex<Option<Duration>>,
    state: Arc<dyn State>,
    clock: Arc<dyn Clock>,
}

impl Room {
    pub(super) fn new(limit: u64, state: Arc<dyn State>, clock: Arc<dyn Clock>) -> Self {
        Self { limit, queued: AtomicU64::new(0), counted: tokio::sync::Mutex::new(None), state, clock }
    }

    /// Returns how many tasks are queued when there is no room for another.
    pub(super) async fn full(&self) -> Result<Option<u64>, StateError> {
        if self.queued.load(Ordering::Relaxed) < self.limit {
            return Ok(None);
        }
        let mut counted = self.counted.lock().await;
        let now = self.clock.monotonic();
        if counted.is_none_or(|at| now.saturating_sub(at) >= RECOUNT) {
            let stats = self.state.stats(None).await?;
            self.counted(&stats);
            *counted = Some(now);
        }
        let queued = self.queued.load(Ordering::Relaxed);
        Ok((queued >= self.limit).then_some(queued))
    }

    pub(super) fn took_one(&self) {
        self.queued.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counted(&self, stats: &StateStats) {
        self.queued.store(stats.tasks.get(&TaskStatus::Queued).copied().unwrap_or(0), Ordering::Relaxed);
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }
}
