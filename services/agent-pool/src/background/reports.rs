//! Tells how this worker does, about once a second: whoever shows pools keeps what was said last for a few seconds.

use std::sync::Arc;
use std::time::Duration;

use bus::Events;
use domain::{Event, EventBody, Namespace, PoolPhase};
use tokio_util::sync::CancellationToken;

use crate::app::{Identity, Worker};

const EVERY: Duration = Duration::from_secs(1);

/// Tells until `drained`, and then that it is gone. `prepared` and `soft` are when it begins and ends to take tasks.
pub(crate) async fn tell(
    worker: Arc<Worker>,
    identity: Identity,
    events: Arc<dyn Events>,
    prepared: CancellationToken,
    soft: CancellationToken,
    drained: CancellationToken,
) {
    let publish = |phase| {
        let report = Box::new(worker.report(&identity, phase));
        events.publish(Event { namespace: Namespace::default(), body: EventBody::PoolReport { report } });
    };
    while !drained.is_cancelled() {
        let phase = match (soft.is_cancelled(), prepared.is_cancelled()) {
            (true, _) => PoolPhase::Draining,
            (false, true) => PoolPhase::Running,
            (false, false) => PoolPhase::Starting,
        };
        publish(phase);
        tokio::select! {
            () = drained.cancelled() => {}
            () = soft.cancelled(), if phase != PoolPhase::Draining => {}
            () = prepared.cancelled(), if phase == PoolPhase::Starting => {}
            () = tokio::time::sleep(EVERY) => {}
        }
    }
    publish(PoolPhase::Stopped);
}
