//! Announces what is ready and was never announced, or so long ago that the announcement must be lost; wakes timers.

use std::time::Duration;

use domain::{Namespace, Timestamp};
use state::{Due, StateError};
use tokio_util::sync::CancellationToken;

use super::{BATCH, Rounds, sleep};
use crate::{Config, Deps};

/// A timer that is due this soon is waited for, instead of looked for again and again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

pub(super) async fn run(config: Config, deps: Deps, stop: CancellationToken) {
    let interval = config.orchestrator_sweep_interval.0;
    let reannounce = config.orchestrator_reannounce.0;
    let mut rounds = Rounds::default();
    loop {
        let pause = match round(&deps, reannounce).await {
            Ok(due) => {
                rounds.went_well();
                if due.transition.ready.len() >= BATCH as usize {
                    Duration::ZERO
                } else {
                    until(due.next, deps.clock.now()).map_or(interval, |until| until.clamp(SHORTEST_PAUSE, interval))
                }
            }
            Err(error) => {
                rounds.failed("sweeper", &error);
                interval
            }
        };
        if !sleep(pause, &stop).await {
            return;
        }
    }
}

async fn round(deps: &Deps, reannounce: Duration) -> Result<Due, StateError> {
    let now = deps.clock.now();
    let due = deps.state.due(now, reannounce, BATCH).await?;
    if !due.transition.ready.is_empty() {
        failpoint::hit("C22");
    }
    // The record does not say whose the tasks are; listeners of one task hear it all the same.
    deps.announcer().transition(&Namespace::default(), &due.transition).await;
    Ok(due)
}

fn until(next: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    next.map(|next| (next - now).to_std().unwrap_or(Duration::ZERO))
}
