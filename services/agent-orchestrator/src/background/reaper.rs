//! Takes tasks away from workers that fell silent.

use domain::Namespace;
use metrics::counter;
use state::StateError;
use state::leases::LeaseWatch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Rounds, sleep};
use crate::{Config, Deps};

pub(super) async fn run(config: Config, deps: Deps, stop: CancellationToken) {
    let interval = config.orchestrator_reap_interval.0;
    let mut rounds = Rounds::default();
    let mut watch = LeaseWatch::default();
    loop {
        match round(&config, &deps, &mut watch).await {
            Ok(()) => rounds.went_well(),
            Err(error) => rounds.failed("reaper", &error),
        }
        if !sleep(interval, &stop).await {
            return;
        }
    }
}

async fn round(config: &Config, deps: &Deps, watch: &mut LeaseWatch) -> Result<(), StateError> {
    let held = deps.state.leases().await?;
    let lost = watch.observe(&held, deps.clock.monotonic(), config.agent_lease.0);
    if lost.is_empty() {
        return Ok(());
    }
    for beat in &lost {
        warn!(task.id = %beat.lease.task, epoch = beat.lease.epoch, worker.id = %beat.worker, "lease expired");
    }
    counter!("leases_expired_total").increment(lost.len() as u64);
    failpoint::hit("C27");
    let transition = deps.state.reap(lost, config.agent_max_lease_losses, deps.clock.now()).await?;
    failpoint::hit("C28");
    deps.announcer().transition(&Namespace::default(), &transition).await;
    Ok(())
}
