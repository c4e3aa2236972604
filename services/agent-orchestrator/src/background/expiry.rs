//! Fails tasks whose time to live or deadline has passed.

use std::time::Duration;

use domain::Namespace;
use metrics::counter;
use state::StateError;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{BATCH, Rounds, sleep};
use crate::{Config, Deps};

pub(super) async fn run(config: Config, deps: Deps, stop: CancellationToken) {
    let interval = config.orchestrator_expiry_interval.0;
    let mut rounds = Rounds::default();
    loop {
        let pause = match round(&deps).await {
            Ok(expired) => {
                rounds.went_well();
                if expired >= BATCH { Duration::ZERO } else { interval }
            }
            Err(error) => {
                rounds.failed("expiry", &error);
                interval
            }
        };
        if !sleep(pause, &stop).await {
            return;
        }
    }
}

async fn round(deps: &Deps) -> Result<u32, StateError> {
    let outcome = deps.state.expire(deps.clock.now(), BATCH).await?;
    if outcome.expired > 0 {
        info!(tasks = outcome.expired, "tasks expired");
        counter!("tasks_expired_total").increment(u64::from(outcome.expired));
    }
    deps.announcer().transition(&Namespace::default(), &outcome.transition).await;
    Ok(outcome.expired)
}
