//! Lists the tasks that failed for good.

use axum::Json;
use axum::extract::State;
use common::extract::Query;
use common::page::{Cursor, Limit};
use common::problem::Problem;
use domain::{AgentName, TaskStatus};
use serde::Deserialize;
use state::TaskFilter;
use utoipa::IntoParams;
use wire::{Page, TaskView};

use super::list::{ListTasksError, page};
use crate::http::App;
use crate::http::caller::Caller;

/// Which dead letters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeadLettersQuery {
    /// Of one agent.
    #[param(value_type = Option<String>)]
    agent: Option<AgentName>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
    /// How many tasks, 1 to 1000.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    limit: Limit,
}

/// Lists the tasks that failed for good, the newest first.
///
/// Each has a typed `failure`. `POST /tasks/{task_id}/retry` brings one back.
#[utoipa::path(get, path = "/dead-letters", operation_id = "dead_letter_list", tag = "tasks", params(DeadLettersQuery),
    responses((status = 200, description = "A page", body = Page<TaskView>), ListTasksError))]
pub(crate) async fn list_dead_letters(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<DeadLettersQuery>,
) -> Result<Json<Page<TaskView>>, Problem> {
    let filter = TaskFilter { agent: query.agent, statuses: vec![TaskStatus::Failed], ..TaskFilter::default() };
    page("dead-letters", &app, &caller, filter, query.cursor, query.limit).await
}
