//! How much work there is.

use std::collections::HashSet;

use axum::Json;
use axum::extract::State;
use common::problem::{self, Kind, Problem};
use domain::ExecutionMode;
use wire::{PoolStats, PoolView};

use super::App;
use super::caller::Caller;

/// Why there are no figures.
pub(crate) struct PoolStatsError;

impl utoipa::IntoResponses for PoolStatsError {
    fn responses() -> problem::Responses {
        problem::responses(&[Kind::Unavailable])
    }
}

/// Shows how much work there is, and how much of it is held by workers.
#[utoipa::path(get, path = "/metrics/pool-stats", operation_id = "pool_stats", tag = "operations",
    responses((status = 200, description = "The figures", body = PoolStats), PoolStatsError))]
pub(crate) async fn pool_stats(State(app): State<App>, caller: Caller) -> Result<Json<PoolStats>, Problem> {
    let stats = app.state.stats(Some(&caller.namespace)).await?;
    let leases = app.state.leases().await?;
    let workers: HashSet<_> = leases.iter().map(|beat| beat.worker).collect();
    let pool = |mode: ExecutionMode| PoolView {
        execution_mode: mode,
        queued: stats.queued.get(&mode).copied().unwrap_or(0),
        announced: app.queue.depth(mode) as u64,
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
