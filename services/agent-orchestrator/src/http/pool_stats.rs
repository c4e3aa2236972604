//! How much work there is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use common::problem::{self, Kind, Problem};
use domain::{ExecutionMode, Namespace, TaskStatus};
use wire::{PoolStats, PoolView, WorkerView};

use super::App;
use super::caller::Caller;
use crate::app::{Worker, rate, recent};

/// Why there are no figures.
pub(crate) struct PoolStatsError;

impl utoipa::IntoResponses for PoolStatsError {
    fn responses() -> problem::Responses {
        problem::responses(&[Kind::Unavailable])
    }
}

/// Shows how much work there is, who does it, and how that goes.
///
/// Tasks and threads are those of the caller's namespace; workers work for all. Workers tell of themselves about once a
/// second, and one that was not heard for five seconds is not shown.
#[utoipa::path(get, path = "/metrics/pool-stats", operation_id = "pool_stats", tag = "operations",
    responses((status = 200, description = "The figures", body = PoolStats), PoolStatsError))]
pub(crate) async fn pool_stats(State(app): State<App>, caller: Caller) -> Result<Json<PoolStats>, Problem> {
    let stats = app.state.stats(Some(&caller.namespace)).await?;
    let leases = app.state.leases().await?;
    let workers: HashSet<_> = leases.iter().map(|beat| beat.worker).collect();
    let modes: HashMap<_, _> = app.agents.modes(&caller.namespace).await?;
    let pool = |mode: ExecutionMode| {
        let workers = app.pools.workers(mode);
        let (durations, rate_per_second) = recent(&workers);
        let sum = |count: fn(&Worker) -> u64| workers.iter().map(count).sum();
        let depth = app.queue.depth(mode) as u64;
        let waiting = stats
            .active
            .iter()
            .filter(|(agent, status, _)| *status == TaskStatus::Waiting && modes.get(agent) == Some(&mode));
        PoolView {
            execution_mode: mode,
            queued: stats.queued.get(&mode).copied().unwrap_or(0),
            announced: depth,
            queue_depth: depth,
            capacity: sum(|worker| u64::from(worker.report.capacity)),
            running: sum(|worker| u64::from(worker.report.running)),
            waiting: waiting.map(|(_, _, count)| count).sum(),
            done: sum(|worker| worker.report.succeeded),
            failed: sum(|worker| worker.report.failed),
            rate_per_second: rounded(rate_per_second),
            p50_ms: durations.quantile(0.5).map(millis),
            p95_ms: durations.quantile(0.95).map(millis),
            workers: workers.iter().map(|worker| view(worker, &caller.namespace)).collect(),
        }
    };
    Ok(Json(PoolStats {
        leases: leases.len() as u64,
        busy_workers: workers.len() as u64,
        pools: ExecutionMode::ALL.map(pool).into(),
        threads: stats.threads,
        stored_bytes: stats.bytes,
        tasks: stats.tasks,
    }))
}

fn view(worker: &Worker, namespace: &Namespace) -> WorkerView {
    let report = &worker.report;
    let runs = report.agents.iter().filter(|work| work.running > 0 && work.namespace == *namespace);
    WorkerView {
        worker: report.worker.to_string(),
        host: report.host.clone(),
        version: report.version.clone(),
        phase: report.phase.as_str().to_owned(),
        started_at: report.started_at,
        silent_ms: millis(worker.silent),
        capacity: u64::from(report.capacity),
        running: u64::from(report.running),
        missed: report.missed,
        done: report.succeeded,
        failed: report.failed,
        cancelled: report.cancelled,
        parked: report.parked,
        retried: report.retried,
        given_back: report.given_back,
        rate_per_second: rounded(rate(report)),
        p50_ms: report.recent.quantile(0.5).map(millis),
        p95_ms: report.recent.quantile(0.95).map(millis),
        agents: runs.map(|work| (work.agent.to_string(), u64::from(work.running))).collect::<BTreeMap<_, _>>(),
    }
}

fn millis(time: Duration) -> u64 {
    time.as_secs_f64().mul_add(1e3, 0.5) as u64
}

fn rounded(rate: f64) -> f64 {
    (rate * 1e3).round() / 1e3
}
