//! Renews all leases of this worker in one call, and finds out what was lost or cancelled.

use std::sync::Arc;
use std::time::Duration;

use state::StateError;
use tokio_util::sync::CancellationToken;

use crate::app::Worker;

/// Renews every `interval` until `stop`. When no renewal has succeeded for `lease`, every run is dropped: somebody else
/// may have its task by now, and every further effect could be a second one.
pub(crate) async fn renew(worker: Arc<Worker>, interval: Duration, lease: Duration, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut renewed_at = worker.clock.monotonic();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let leases = worker.runs.leases();
        if leases.is_empty() {
            renewed_at = worker.clock.monotonic();
            continue;
        }
        failpoint::hit("C20");
        if failpoint::skip("C20") {
            continue;
        }
        let asked_at = worker.clock.monotonic();
        // An answer that died with a copy of the record's service must not outlast the lease: the next copy is asked in time.
        let renewed = tokio::time::timeout(lease / 2, worker.state.renew(worker.id, leases)).await;
        match renewed.unwrap_or_else(|_| Err(StateError::Unavailable("no answer within half a lease".to_owned()))) {
            Ok(renewed) => {
                renewed_at = asked_at;
                for lease in renewed.lost {
                    worker.runs.drop_lost(lease);
                }
                for lease in renewed.cancel {
                    worker.runs.cancel(lease.task);
                }
            }
            Err(error) => {
                tracing::warn!(error = %error, "leases not renewed");
                if worker.clock.monotonic().saturating_sub(renewed_at) >= lease {
                    tracing::error!("no renewal for a whole lease, all runs are dropped");
                    worker.runs.drop_all();
                }
            }
        }
    }
}
