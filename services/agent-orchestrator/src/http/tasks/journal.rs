//! Shows what happened in a task.

use axum::Json;
use axum::extract::State;
use common::extract::{Path, Query};
use common::page::{Cursor, Limit};
use common::problem::Problem;
use serde::Deserialize;
use utoipa::IntoParams;
use wire::{JournalStep, Page};

use super::TaskPath;
use crate::app::JournalError;
use crate::http::App;
use crate::http::caller::Caller;

/// Which steps.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct JournalQuery {
    /// The first step; 0, the input, when absent.
    from: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
    /// How many steps, 1 to 1000.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    limit: Limit,
}

/// Lists a task's finished steps, in order.
#[utoipa::path(get, path = "/tasks/{task_id}/journal", operation_id = "task_journal", tag = "tasks",
    params(TaskPath, JournalQuery),
    responses((status = 200, description = "A page", body = Page<JournalStep>), JournalError))]
pub(crate) async fn task_journal(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<TaskPath>,
    Query(query): Query<JournalQuery>,
) -> Result<Json<Page<JournalStep>>, Problem> {
    let scope = ("journal", &caller.namespace, path.task_id);
    let after = query.cursor.map(|cursor| cursor.after::<u32>(&scope)).transpose()?;
    let from = match (query.from, after) {
        (Some(_), Some(_)) => return Err(Problem::invalid("query.from", "cannot be given together with `cursor`")),
        (from, after) => from.or(after.map(|seq| seq.saturating_add(1))).unwrap_or(0),
    };
    let page = app.tasks.journal(&caller.namespace, path.task_id, from, query.limit.get()).await?;
    let last = page.items.last().map(|step| step.seq).filter(|_| page.more);
    let next_cursor = last.map(|seq| Cursor::new(&scope, &seq).as_str().to_owned());
    Ok(Json(Page { items: page.items.into_iter().map(JournalStep).collect(), next_cursor }))
}
