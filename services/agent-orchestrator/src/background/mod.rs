//! Reconcilers: they bring what is back to what should be, from the record alone. Safe to run on many replicas.

mod blobs;
mod expiry;
mod hearing;
mod reaper;
mod stats;
mod sweeper;

use std::time::Duration;

use common::lifecycle::Lifecycle;
use tracing::warn;

use crate::app::{Pools, Tasks};
use crate::{Config, Deps};

/// How many tasks one round looks at.
const BATCH: u32 = 1_000;

/// Starts them all.
pub(crate) fn start(config: &Config, deps: &Deps, tasks: &Tasks, pools: Pools, lifecycle: &Lifecycle) {
    let soft = lifecycle.soft();
    let events = || std::sync::Arc::clone(&deps.events);
    lifecycle.spawn("orchestrator.pool-reports", hearing::pools(pools, events(), soft.clone()));
    let (submitted, stop) = (tasks.clone(), soft.clone());
    lifecycle.spawn("orchestrator.announcements", async move {
        stop.cancelled().await;
        submitted.announced().await;
    });
    lifecycle.spawn("orchestrator.ends", hearing::ends(tasks.ends(), events(), soft.clone()));
    lifecycle.spawn("orchestrator.sweeper", sweeper::run(config.clone(), deps.clone(), soft.clone()));
    lifecycle.spawn("orchestrator.reaper", reaper::run(config.clone(), deps.clone(), soft.clone()));
    lifecycle.spawn("orchestrator.expiry", expiry::run(config.clone(), deps.clone(), soft.clone()));
    lifecycle.spawn("orchestrator.blobs", blobs::run(config.clone(), deps.clone(), soft.clone()));
    lifecycle.spawn("orchestrator.stats", stats::run(config.clone(), deps.clone(), tasks.clone(), soft.clone()));
}

/// Whether the last round went well, so that an outage is logged once and not once a second.
#[derive(Default)]
struct Rounds {
    failing: bool,
}

impl Rounds {
    fn failed(&mut self, what: &'static str, error: &(dyn std::error::Error + 'static)) {
        if !self.failing {
            warn!(error, what, "a background round failed; it is repeated");
        }
        self.failing = true;
    }

    fn went_well(&mut self) {
        self.failing = false;
    }
}

/// Sleeps; false when it is time to stop.
async fn sleep(pause: Duration, stop: &tokio_util::sync::CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(pause) => true,
    }
}
