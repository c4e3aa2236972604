//! Counts what is stored, for metrics and for the limit of queued tasks.

use domain::{ExecutionMode, TaskStatus};
use metrics::gauge;
use tokio_util::sync::CancellationToken;

use super::{Rounds, sleep};
use crate::app::Tasks;
use crate::{Config, Deps};

pub(super) async fn run(config: Config, deps: Deps, tasks: Tasks, stop: CancellationToken) {
    let interval = config.orchestrator_stats_interval.0;
    let mut rounds = Rounds::default();
    loop {
        match deps.state.stats(None).await {
            Ok(stats) => {
                rounds.went_well();
                tasks.counted(&stats);
                for status in TaskStatus::ALL {
                    let count = stats.tasks.get(&status).copied().unwrap_or(0);
                    gauge!("tasks", "status" => status.as_str()).set(count as f64);
                }
                let dead = stats.tasks.get(&TaskStatus::Failed).copied().unwrap_or(0);
                gauge!("dead_letters").set(dead as f64);
            }
            Err(error) => rounds.failed("stats", &error),
        }
        for mode in ExecutionMode::ALL {
            gauge!("queue_depth", "execution_mode" => mode.as_str()).set(deps.queue.depth(mode) as f64);
        }
        if !sleep(interval, &stop).await {
            return;
        }
    }
}
