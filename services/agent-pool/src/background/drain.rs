//! An orderly stop: runs are given back at their next step; those that do not come to one in time are cut off.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::Worker;

/// Waits for `soft`, then for the runs to end: `patience` at most, less when `hard` comes.
pub(crate) async fn drain(
    worker: Arc<Worker>,
    tracker: TaskTracker,
    patience: Duration,
    soft: CancellationToken,
    hard: CancellationToken,
) {
    soft.cancelled().await;
    tracker.close();
    let ended = async {
        // A task that was being claimed when the stop came joins late, hence the repetition.
        loop {
            worker.runs.release_all();
            tokio::select! {
                () = tracker.wait() => return,
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
    };
    tokio::select! {
        () = ended => return,
        () = hard.cancelled() => {}
        () = tokio::time::sleep(patience) => {}
    }
    while !tracker.is_empty() {
        worker.runs.drop_all();
        tokio::select! {
            () = tracker.wait() => {}
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
    debug_assert!(worker.runs.is_empty(), "every run has ended");
}
