//! Deletes what nobody has to keep any more, a little at a time, so that writers never wait long.

use std::time::Duration;

use state::StateError;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{Config, Deps};

/// Between two portions writers get their turn.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs until the soft stop. Safe to run in many replicas: deleting twice deletes once.
pub(crate) async fn run(config: Config, deps: Deps, soft: CancellationToken) {
    let mut interval = tokio::time::interval(config.state_manager_purge_interval.0);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = soft.cancelled() => return,
            _ = interval.tick() => {}
        }
        match purge(&config, &deps, &soft).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "deleted what retention no longer keeps"),
            Err(error) => tracing::warn!(%error, "could not delete what retention no longer keeps, trying again later"),
        }
    }
}

async fn purge(config: &Config, deps: &Deps, soft: &CancellationToken) -> Result<u64, StateError> {
    let mut total = 0;
    while !soft.is_cancelled() {
        let limit = config.state_manager_purge_rows;
        let purged = deps.state.purge(config.retention(), deps.clock.now(), limit).await?;
        if purged.tasks + purged.values == 0 {
            break;
        }
        metrics::counter!("state_purged_total", "kind" => "task").increment(purged.tasks);
        metrics::counter!("state_purged_total", "kind" => "value").increment(purged.values);
        total += purged.tasks + purged.values;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(total)
}
