//! What the tasks of a namespace cost.

use axum::Json;
use axum::extract::State;
use common::problem::{self, Kind, Problem};
use wire::AccountView;

use super::App;
use super::caller::Caller;

/// Why there are no figures.
pub(crate) struct BudgetsError;

impl utoipa::IntoResponses for BudgetsError {
    fn responses() -> problem::Responses {
        problem::responses(&[Kind::Unavailable])
    }
}

/// Lists the accounts of agents and of the namespace that were used in their current hour or day.
///
/// The budgets of single tasks are at `/tasks/{task_id}/budget`.
#[utoipa::path(get, path = "/budgets", operation_id = "budget_list", tag = "operations",
    responses((status = 200, description = "The accounts, by name", body = Vec<AccountView>), BudgetsError))]
pub(crate) async fn list_budgets(State(app): State<App>, caller: Caller) -> Result<Json<Vec<AccountView>>, Problem> {
    Ok(Json(app.tasks.accounts(&caller.namespace).await?))
}
