//! Hears what pools tell of themselves, so that it can be shown.

use std::sync::Arc;
use std::time::Duration;

use bus::{Events, Received};
use domain::EventBody;
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::{Rounds, sleep};
use crate::app::Pools;

/// How long to wait before listening again.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(pools: Pools, events: Arc<dyn Events>, stop: CancellationToken) {
    let mut rounds = Rounds::default();
    loop {
        match events.subscribe_lifecycle().await {
            Ok(mut stream) => {
                rounds.went_well();
                pools.listening(true);
                while let Some(received) = tokio::select! {
                    biased;
                    () = stop.cancelled() => None,
                    received = stream.next() => received,
                } {
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
