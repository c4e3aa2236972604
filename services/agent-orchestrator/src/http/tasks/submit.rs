//! Submits a task.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use common::extract::StrictJson;
use common::problem::Problem;
use common::trace::TraceContext;
use wire::{SubmitTask, TaskView};

use super::to_its_end;
use crate::app::{Submission, SubmitError};
use crate::http::App;
use crate::http::caller::Caller;
use crate::http::headers::IdempotencyKey;

type Accepted = (StatusCode, [(HeaderName, String); 1], Json<TaskView>);

/// Submits a task.
///
/// 202 means that the task is committed: it will end exactly once, whatever fails in between. With an idempotency key it
/// is safe to submit again when no answer came: 200 is the task that the key already named. The same key with another
/// request is refused.
#[utoipa::path(post, path = "/tasks", operation_id = "task_submit", tag = "tasks", request_body = SubmitTask,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same as `idempotency_key` of the body")),
    responses(
        (status = 202, description = "The task is accepted; `Location` names it", body = TaskView),
        (status = 200, description = "The task that the key already named", body = TaskView),
        SubmitError
    ))]
#[tracing::instrument(name = "http.task.submit", skip_all, fields(agent = %request.agent))]
pub(crate) async fn submit_task(
    State(app): State<App>,
    caller: Caller,
    trace: TraceContext,
    IdempotencyKey(idempotency_key): IdempotencyKey,
    StrictJson(request): StrictJson<SubmitTask>,
) -> Result<Accepted, Problem> {
    let submission = Submission { request, idempotency_key, trace: Some(trace.traceparent()) };
    submit(app, caller, submission).await
}

/// Submits a task; the same as `POST /tasks`.
#[utoipa::path(post, path = "/queue/submit", operation_id = "queue_submit", tag = "tasks", request_body = SubmitTask,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same as `idempotency_key` of the body")),
    responses(
        (status = 202, description = "The task is accepted; `Location` names it", body = TaskView),
        (status = 200, description = "The task that the key already named", body = TaskView),
        SubmitError
    ))]
#[tracing::instrument(name = "http.queue.submit", skip_all, fields(agent = %request.agent))]
pub(crate) async fn queue_submit(
    State(app): State<App>,
    caller: Caller,
    trace: TraceContext,
    IdempotencyKey(idempotency_key): IdempotencyKey,
    StrictJson(request): StrictJson<SubmitTask>,
) -> Result<Accepted, Problem> {
    let submission = Submission { request, idempotency_key, trace: Some(trace.traceparent()) };
    submit(app, caller, submission).await
}

async fn submit(app: App, caller: Caller, submission: Submission) -> Result<Accepted, Problem> {
    let submitted = to_its_end(async move { app.tasks.submit(&caller.namespace, submission).await }).await?;
    let status = if submitted.created { StatusCode::ACCEPTED } else { StatusCode::OK };
    let task = TaskView::from(submitted.task);
    Ok((status, [(header::LOCATION, task.links.this.clone())], Json(task)))
}
