//! What a task may cost, and people who raise it.

use axum::Json;
use axum::extract::State;
use common::extract::{Path, StrictJson};
use common::problem::Problem;
use wire::{BudgetView, DecideBudget, TaskView};

use super::{TaskPath, to_its_end};
use crate::app::{DecisionError, TaskError};
use crate::http::App;
use crate::http::caller::Caller;

/// Shows how the accounts stand that a task's calls are paid from.
///
/// A sub-task has the accounts of the task that it works for. None means that nothing is limited.
#[utoipa::path(get, path = "/tasks/{task_id}/budget", operation_id = "task_budget", tag = "tasks", params(TaskPath),
    responses((status = 200, description = "The accounts", body = Vec<BudgetView>), TaskError))]
pub(crate) async fn task_budget(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<TaskPath>,
) -> Result<Json<Vec<BudgetView>>, Problem> {
    Ok(Json(app.tasks.budget(&caller.namespace, path.task_id).await?))
}

/// Raises a budget that does not allow a task's next call, or stops the task.
///
/// What is granted is for this task alone. The first decision counts and is kept in the journal with who and when.
#[utoipa::path(post, path = "/tasks/{task_id}/budget", operation_id = "task_grant", tag = "tasks", params(TaskPath),
    request_body = DecideBudget,
    responses((status = 200, description = "The task after the decision", body = TaskView), DecisionError))]
#[tracing::instrument(name = "http.task.grant", skip_all, fields(task.id = %path.task_id))]
pub(crate) async fn decide_budget(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<TaskPath>,
    StrictJson(body): StrictJson<DecideBudget>,
) -> Result<Json<TaskView>, Problem> {
    let change = async move { app.tasks.decide_budget(&caller.namespace, path.task_id, body).await };
    Ok(Json(to_its_end(change).await?))
}
