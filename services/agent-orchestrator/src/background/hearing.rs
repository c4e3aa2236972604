//! Hears what others tell, for as long as the service runs: listens again whenever it was cut off.

use std::sync::Arc;
use std::time::Duration;

use bus::{Events, Received};
use domain::EventBody;
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::{Rounds, sleep};
use crate::app::{Ends, Pools};

/// How long to wait before listening again.
const PAUSE: Duration = Duration::from_secs(1);

/// Notes what pools tell of themselves, so that it can be shown.
pub(super) async fn pools(pools: Pools, events: Arc<dyn Events>, stop: CancellationToken) {
    let mut rounds = Rounds::default();
    loop {
        match events.subscribe_control().await {
            Ok(mut stream) => {
                rounds.went_well();
                pools.listening(true);
                while let Some(received) = next(&mut stream, &stop).await {
                    if let Received::Event(event) = received
                        && let EventBody::PoolReport { report } = &event.body
                    {
                        pools.hear(report);
                    }
                }
                pools.listening(false);
            }
            Err(error) => rounds.failed("pool reports", &error),
        }
        if !sleep(PAUSE, &stop).await {
            return;
        }
    }
}

/// Tells the ends of tasks to whoever waits for them.
pub(super) async fn ends(ends: Arc<Ends>, events: Arc<dyn Events>, stop: CancellationToken) {
    let mut rounds = Rounds::default();
    loop {
        match events.subscribe_ends().await {
            Ok(mut stream) => {
                rounds.went_well();
                ends.listening(true);
                while let Some(received) = next(&mut stream, &stop).await {
                    match received {
                        Received::Missed => ends.missed(),
                        Received::Event(event) => {
                            if let EventBody::TaskFinished { task, .. } = event.body {
                                ends.ended(task);
                            }
                        }
                    }
                }
                ends.listening(false);
            }
            Err(error) => rounds.failed("the ends of tasks", &error),
        }
        if !sleep(PAUSE, &stop).await {
            return;
        }
    }
}

async fn next(
    stream: &mut (impl futures::Stream<Item = Received> + Unpin),
    stop: &CancellationToken,
) -> Option<Received> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        received = stream.next() => received,
    }
}
