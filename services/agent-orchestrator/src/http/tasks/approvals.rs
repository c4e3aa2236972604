//! Calls that a person must allow.

use axum::Json;
use axum::extract::State;
use common::extract::{Path, Query, StrictJson};
use common::page::Cursor;
use common::problem::Problem;
use domain::TaskId;
use serde::Deserialize;
use utoipa::IntoParams;
use wire::{ApprovalView, DecideApproval, Page};

use super::list::ListTasksError;
use super::{TaskPath, to_its_end};
use crate::app::{DecisionError, TaskError};
use crate::http::App;
use crate::http::caller::Caller;
use crate::http::threads::PageQuery;

/// The path of a call.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct CallPath {
    /// The task's id.
    #[param(value_type = Uuid)]
    task_id: TaskId,
    /// The call's id; `waiting_for` of the task shows it.
    call_id: String,
}

/// Lists what people were asked about a task's calls, oldest first: what is open, and who decided the rest.
#[utoipa::path(get, path = "/tasks/{task_id}/approvals", operation_id = "task_approvals", tag = "tasks",
    params(TaskPath),
    responses((status = 200, description = "The questions, oldest first", body = Vec<ApprovalView>), TaskError))]
pub(crate) async fn task_approvals(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<TaskPath>,
) -> Result<Json<Vec<ApprovalView>>, Problem> {
    Ok(Json(app.tasks.approvals(&caller.namespace, path.task_id).await?))
}

/// Allows a call, or denies it.
///
/// The decision names the call's `digest`, so that nobody decides about something that he has not seen. The first decision
/// counts and is kept in the journal with who and when; the same one again changes nothing. A call that is allowed with
/// other `arguments` is made with those.
#[utoipa::path(post, path = "/tasks/{task_id}/approvals/{call_id}", operation_id = "task_decide", tag = "tasks",
    params(CallPath), request_body = DecideApproval,
    responses((status = 200, description = "The question with the decision", body = ApprovalView), DecisionError))]
#[tracing::instrument(name = "http.task.decide", skip_all, fields(task.id = %path.task_id))]
pub(crate) async fn decide_approval(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<CallPath>,
    StrictJson(body): StrictJson<DecideApproval>,
) -> Result<Json<ApprovalView>, Problem> {
    let change = async move { app.tasks.decide(&caller.namespace, path.task_id, &path.call_id, body).await };
    Ok(Json(to_its_end(change).await?))
}

/// Lists the open questions of all tasks, those of the newest task first.
///
/// `limit` counts the waiting tasks that are looked at, at most 100; a page may be empty and have a next one all the same.
#[utoipa::path(get, path = "/approvals", operation_id = "approval_list", tag = "tasks", params(PageQuery),
    responses((status = 200, description = "A page", body = Page<ApprovalView>), ListTasksError))]
pub(crate) async fn list_approvals(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<ApprovalView>>, Problem> {
    let scope = ("approvals", &caller.namespace);
    let after = query.cursor.map(|cursor| cursor.after::<TaskId>(&scope)).transpose()?;
    let (items, last) = app.tasks.open_approvals(&caller.namespace, after, query.limit.get()).await?;
    let next_cursor = last.map(|id| Cursor::new(&scope, &id).as_str().to_owned());
    Ok(Json(Page { items, next_cursor }))
}
