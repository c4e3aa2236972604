//! What the record holds.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use common::problem::{self, Kind, Problem};
use domain::{ExecutionMode, TaskStatus};
use serde::Serialize;
use utoipa::ToSchema;
use wire::TaskStatusSchema;

use super::App;

/// Counts of what is stored.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatsView {
    /// Tasks by status.
    #[schema(value_type = BTreeMap<String, u64>)]
    tasks: BTreeMap<TaskStatus, u64>,
    /// Tasks that have not ended.
    active: Vec<ActiveView>,
    /// Queued tasks by execution mode.
    #[schema(value_type = BTreeMap<String, u64>)]
    queued: BTreeMap<ExecutionMode, u64>,
    /// Stored values.
    values: u64,
    /// Conversations.
    threads: u64,
    /// Bytes that the record takes on disk.
    stored_bytes: u64,
}

/// How many of an agent's tasks are in one status.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ActiveView {
    /// The agent.
    #[schema(example = "writer")]
    agent: String,
    /// The status.
    #[schema(value_type = TaskStatusSchema)]
    status: TaskStatus,
    /// How many.
    tasks: u64,
}

/// Why the record cannot be counted.
pub(crate) struct StatsError;

impl utoipa::IntoResponses for StatsError {
    fn responses() -> problem::Responses {
        problem::responses(&[Kind::Unavailable])
    }
}

/// Counts what the record holds, in all namespaces.
#[utoipa::path(get, path = "/stats", operation_id = "stats", tag = "operations",
    responses((status = 200, description = "The counts", body = StatsView), StatsError))]
pub(crate) async fn stats(State(app): State<App>) -> Result<Json<StatsView>, Problem> {
    let stats = app.state.stats(None).await?;
    let active = stats
        .active
        .into_iter()
        .map(|(agent, status, tasks)| ActiveView { agent: agent.as_str().to_owned(), status, tasks })
        .collect();
    Ok(Json(StatsView {
        tasks: stats.tasks,
        active,
        queued: stats.queued,
        values: stats.values,
        threads: stats.threads,
        stored_bytes: stats.bytes,
    }))
}
