//! Answers what a task waits for.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use common::extract::{Path, StrictJson};
use common::problem::Problem;
use wire::{SignalBody, TaskView};

use super::{TaskPath, to_its_end};
use crate::app::SignalError;
use crate::http::App;
use crate::http::caller::Caller;
use crate::http::headers::IdempotencyKey;

/// Delivers a named value to a task.
///
/// It goes to the oldest wait for that name (`waiting_for` of the task shows them), else it is kept for the next one. The
/// same idempotency key again changes nothing. Decisions about calls and budgets are no signals: they have endpoints of their own.
#[utoipa::path(post, path = "/tasks/{task_id}/signal", operation_id = "task_signal", tag = "tasks",
    params(TaskPath, ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition harmless")),
    request_body = SignalBody,
    responses((status = 202, description = "The task after the signal", body = TaskView), SignalError))]
#[tracing::instrument(name = "http.task.signal", skip_all, fields(task.id = %path.task_id))]
pub(crate) async fn signal_task(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<TaskPath>,
    IdempotencyKey(key): IdempotencyKey,
    StrictJson(body): StrictJson<SignalBody>,
) -> Result<(StatusCode, Json<TaskView>), Problem> {
    let change = async move { app.tasks.signal(&caller.namespace, path.task_id, body, key.as_deref()).await };
    Ok((StatusCode::ACCEPTED, Json(to_its_end(change).await?)))
}
