//! Cancellations: told to the run at once. One that is missed is found by the next renewal.

use std::sync::Arc;
use std::time::Duration;

use bus::{Events, Received};
use domain::EventBody;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::app::Worker;

/// Listens until `stop`.
pub(crate) async fn consume(worker: Arc<Worker>, events: Arc<dyn Events>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match events.subscribe_control().await {
            Ok(mut stream) => loop {
                let received = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    received = stream.next() => received,
                };
                match received {
                    Some(Received::Event(event)) => {
                        if let EventBody::CancelRequested { task } = &event.body {
                            worker.runs.cancel(*task);
                        }
                    }
                    Some(Received::Missed) => {}
                    None => break,
                }
            },
            Err(error) => tracing::warn!(error = %error, "events cannot be heard"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}
