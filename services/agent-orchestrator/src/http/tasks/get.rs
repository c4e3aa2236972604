//! Shows one task.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use common::extract::{Path, Query};
use common::problem::Problem;
use domain::HumanDuration;
use serde::Deserialize;
use utoipa::IntoParams;
use wire::TaskView;

use super::TaskPath;
use crate::app::TaskError;
use crate::http::App;
use crate::http::caller::Caller;

/// The server gives up on handlers that take a minute.
const LONGEST_WAIT: Duration = Duration::from_secs(50);

/// How long to wait.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct GetTaskQuery {
    /// Answers as soon as the task has ended, or after this time; at most 50 s, a longer time is shortened.
    #[param(value_type = Option<String>, example = "30s", pattern = "^([0-9]+(ms|s|m|h|d))+$")]
    wait: Option<HumanDuration>,
}

/// Shows one task.
///
/// A succeeded task has its `output`; a queued or waiting one says what it waits for.
#[utoipa::path(get, path = "/tasks/{task_id}", operation_id = "task_get", tag = "tasks",
    params(TaskPath, GetTaskQuery),
    responses((status = 200, description = "The task", body = TaskView), TaskError))]
pub(crate) async fn get_task(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<TaskPath>,
    Query(query): Query<GetTaskQuery>,
) -> Result<Json<TaskView>, Problem> {
    let task = match query.wait {
        Some(wait) => tokio::select! {
            task = app.tasks.wait(&caller.namespace, path.task_id, wait.0.min(LONGEST_WAIT)) => task?,
            // A shutdown does not wait for a poll.
            () = app.stopping.cancelled() => app.tasks.get(&caller.namespace, path.task_id).await?,
        },
        None => app.tasks.get(&caller.namespace, path.task_id).await?,
    };
    Ok(Json(task))
}
