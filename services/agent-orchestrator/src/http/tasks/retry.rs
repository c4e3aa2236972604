//! Begins a failed or cancelled task again.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use common::extract::Path;
use common::problem::Problem;
use wire::{RetryBody, TaskView};

use super::{TaskPath, to_its_end};
use crate::app::TaskError;
use crate::http::App;
use crate::http::caller::Caller;
use crate::http::optional_json::OptionalJson;

/// Begins a failed or cancelled task again.
///
/// It goes on after its last step, or with `keep_journal: false` starts anew from its input. The body may be left out.
#[utoipa::path(post, path = "/tasks/{task_id}/retry", operation_id = "task_retry", tag = "tasks", params(TaskPath),
    request_body(content = Option<RetryBody>),
    responses((status = 202, description = "The task, queued again", body = TaskView), TaskError))]
#[tracing::instrument(name = "http.task.retry", skip_all, fields(task.id = %path.task_id))]
pub(crate) async fn retry_task(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<TaskPath>,
    OptionalJson(body): OptionalJson<RetryBody>,
) -> Result<(StatusCode, Json<TaskView>), Problem> {
    let change = async move { app.tasks.retry(&caller.namespace, path.task_id, body.keep_journal).await };
    Ok((StatusCode::ACCEPTED, Json(to_its_end(change).await?)))
}
