//! What a pool tells of itself.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{RunCounts, Worker};

/// This worker at this moment.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PoolStatus {
    /// The worker; a restarted process is another one.
    #[schema(example = "0198f1c2-5f7e-7c3a-9d9e-0a4b6c8d1e2f")]
    pub worker: String,
    /// The execution mode of its tasks.
    #[schema(example = "autonomous")]
    pub mode: String,
    /// How many tasks it runs at most at once.
    #[schema(example = 256)]
    pub capacity: usize,
    /// What it has done since it started.
    pub runs: RunCounts,
}

#[derive(Clone)]
struct App {
    worker: Arc<Worker>,
    capacity: usize,
}

/// Tells what this worker is doing.
#[utoipa::path(get, path = "/status", operation_id = "pool_status", tag = "pool", responses((status = 200, body = PoolStatus)))]
async fn status(State(app): State<App>) -> Json<PoolStatus> {
    Json(PoolStatus {
        worker: app.worker.id.to_string(),
        mode: app.worker.mode.to_string(),
        capacity: app.capacity,
        runs: app.worker.runs.counts(),
    })
}

pub(crate) fn routes(worker: Arc<Worker>, capacity: usize) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(status)).with_state(App { worker, capacity })
}
