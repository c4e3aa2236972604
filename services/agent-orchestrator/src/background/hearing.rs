//! Hears what others tell, for as long as the service runs: listens again whenever it was cut off.

use std::sync::Arc;
use std::time::Duration;

use bus::{BusError, Events, Received};
use domain::EventBody;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio_util::sync::CancellationToken;

use super::{Rounds, sleep};
use crate::app::{Ends, Pools};

/// How long to wait before listening again.
const PAUSE: Duration = Duration::from_secs(1);

/// Notes what pools tell of themselves, so that it can be shown.
pub(super) async fn pools(pools: Pools, events: Arc<dyn Events>, stop: CancellationToken) {
    let hear = |received| {
        if let Received::Event(event) = received
            && let EventBody::PoolReport { report } = &event.body
        {
            pools.hear(report);
        }
    };
    let events = &*events;
    listen("pool reports", move || events.subscribe_control(), |listening| pools.listening(listening), hear, stop)
        .await;
}

/// Tells the ends of tasks to whoever waits for them.
pub(super) async fn ends(ends: Arc<Ends>, events: Arc<dyn Events>, stop: CancellationToken) {
    let hear = |received| match received {
        Received::Missed => ends.missed(),
        Received::Event(event) => {
            if let EventBody::TaskFinished { task, .. } = event.body {
                ends.ended(task);
            }
        }
    };
    let events = &*events;
    listen("the ends of tasks", move || events.subscribe_ends(), |listening| ends.listening(listening), hear, stop)
        .await;
}

async fn listen<S>(
    what: &'static str,
    subscribe: impl Fn() -> S,
    listening: impl Fn(bool),
    hear: impl Fn(Received),
    stop: CancellationToken,
) where
    S: Future<Output = Result<BoxStream<'static, Received>, BusError>>,
{
    let mut rounds = Rounds::default();
    loop {
        match subscribe().await {
            Ok(mut stream) => {
                rounds.went_well();
                listening(true);
                while let Some(Some(received)) = stop.run_until_cancelled(stream.next()).await {
                    hear(received);
                }
                listening(false);
            }
            Err(error) => rounds.failed(what, &error),
        }
        if !sleep(PAUSE, &stop).await {
            return;
        }
    }
}
