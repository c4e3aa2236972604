//! Asks a task to stop.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use common::extract::Path;
use common::problem::Problem;
use wire::TaskView;

use super::{TaskPath, to_its_end};
use crate::app::TaskError;
use crate::http::App;
use crate::http::caller::Caller;

/// Asks a task to stop.
///
/// A queued or waiting task is cancelled at once, with its sub-tasks. A running one is shown as `cancelling` until its
/// worker notices. Asking twice is harmless; a task that has ended is a conflict.
#[utoipa::path(post, path = "/tasks/{task_id}/cancel", operation_id = "task_cancel", tag = "tasks", params(TaskPath),
    responses((status = 202, description = "The task after the request", body = TaskView), TaskError))]
#[tracing::instrument(name = "http.task.cancel", skip_all, fields(task.id = %path.task_id))]
pub(crate) async fn cancel_task(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<TaskPath>,
) -> Result<(StatusCode, Json<TaskView>), Problem> {
    let task = to_its_end(async move { app.tasks.cancel(&caller.namespace, path.task_id).await }).await?;
    Ok((StatusCode::ACCEPTED, Json(task)))
}
