//! Ready tasks: taken as long as there is capacity.

use std::sync::Arc;
use std::time::Duration;

use bus::{BusError, WorkQueue};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::Worker;

/// How long to wait before asking a queue again that failed.
const PAUSE: Duration = Duration::from_millis(500);

/// Takes ready tasks until `stop`; the runs go on in `tracker`.
pub(crate) async fn consume(
    worker: Arc<Worker>,
    queue: Arc<dyn WorkQueue>,
    capacity: usize,
    tracker: TaskTracker,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(capacity));
    loop {
        let slot = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            slot = Arc::clone(&slots).acquire_owned() => slot,
        };
        let Ok(slot) = slot else { return };
        let delivery = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            delivery = queue.next(worker.mode) => delivery,
        };
        match delivery {
            Ok(delivery) => {
                let worker = Arc::clone(&worker);
                tracker.spawn(async move {
                    worker.take(delivery).await;
                    drop(slot);
                });
            }
            Err(BusError::Closed) => return,
            Err(error) => {
                tracing::warn!(error = %error, "work queue failed");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
