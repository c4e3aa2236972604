//! Lists tasks.

use axum::Json;
use axum::extract::State;
use common::extract::Query;
use common::page::{Cursor, Limit};
use common::problem::{self, Kind, Problem};
use domain::{AgentName, TaskId, TaskStatus, ThreadId};
use serde::Deserialize;
use state::TaskFilter;
use utoipa::IntoParams;
use wire::{Page, TaskView};

use crate::http::App;
use crate::http::caller::Caller;

/// Which tasks.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListTasksQuery {
    /// Of one agent.
    #[param(value_type = Option<String>)]
    agent: Option<AgentName>,
    /// In one of these statuses, separated by commas.
    #[param(example = "queued,running")]
    status: Option<String>,
    /// Of one conversation.
    #[param(value_type = Option<Uuid>)]
    thread_id: Option<ThreadId>,
    /// Sub-tasks of one task.
    #[param(value_type = Option<Uuid>)]
    parent: Option<TaskId>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
    /// How many tasks, 1 to 1000.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    limit: Limit,
}

/// Why tasks cannot be listed.
pub(crate) struct ListTasksError;

impl utoipa::IntoResponses for ListTasksError {
    fn responses() -> problem::Responses {
        problem::responses(&[Kind::InvalidRequest, Kind::InvalidCursor, Kind::Unavailable])
    }
}

/// Lists tasks, the newest first.
#[utoipa::path(get, path = "/tasks", operation_id = "task_list", tag = "tasks", params(ListTasksQuery),
    responses((status = 200, description = "A page", body = Page<TaskView>), ListTasksError))]
pub(crate) async fn list_tasks(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ListTasksQuery>,
) -> Result<Json<Page<TaskView>>, Problem> {
    let statuses = query.status.as_deref().map(statuses).transpose()?.unwrap_or_default();
    let filter = TaskFilter { agent: query.agent, statuses, thread: query.thread_id, parent: query.parent };
    page("tasks", &app, &caller, filter, query.cursor, query.limit).await
}

/// One page of the tasks that a filter lets through.
pub(super) async fn page(
    name: &'static str,
    app: &App,
    caller: &Caller,
    filter: TaskFilter,
    cursor: Option<Cursor>,
    limit: Limit,
) -> Result<Json<Page<TaskView>>, Problem> {
    let scope = (name, &caller.namespace, filter.agent.clone(), filter.statuses.clone(), filter.thread, filter.parent);
    let after = cursor.map(|cursor| cursor.after::<TaskId>(&scope)).transpose()?;
    let page = app.tasks.list(&caller.namespace, filter, after, limit.get()).await?;
    let last = page.items.last().map(|task| task.id).filter(|_| page.more);
    let next_cursor = last.map(|id| Cursor::new(&scope, &id).as_str().to_owned());
    Ok(Json(Page { items: page.items, next_cursor }))
}

fn statuses(text: &str) -> Result<Vec<TaskStatus>, Problem> {
    let mut statuses = text
        .split(',')
        .map(|status| status.parse().map_err(|reason: String| Problem::invalid("query.status", reason)))
        .collect::<Result<Vec<TaskStatus>, Problem>>()?;
    statuses.sort_unstable();
    statuses.dedup();
    Ok(statuses)
}
