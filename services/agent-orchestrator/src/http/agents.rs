//! Agents and what they do at the moment.

use axum::Json;
use axum::extract::State;
use common::extract::Path;
use common::problem::Problem;
use domain::AgentName;
use serde::Deserialize;
use utoipa::IntoParams;
use wire::AgentView;

use super::App;
use super::caller::Caller;
use crate::app::AgentError;

/// The path of an agent.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct AgentPath {
    /// The agent's name.
    #[param(value_type = String, example = "researcher", pattern = "^[a-z0-9][a-z0-9._-]{0,62}$")]
    agent: AgentName,
}

/// Lists all agents.
///
/// A plain array, sorted by name, so that `jq 'group_by(.status)'` works on it.
#[utoipa::path(get, path = "/agents", operation_id = "agent_list", tag = "agents",
    responses((status = 200, description = "All agents, by name", body = Vec<AgentView>), AgentError))]
pub(crate) async fn list_agents(State(app): State<App>, caller: Caller) -> Result<Json<Vec<AgentView>>, Problem> {
    Ok(Json(app.agents.list(&caller.namespace).await?))
}

/// Shows one agent.
#[utoipa::path(get, path = "/agents/{agent}", operation_id = "agent_get", tag = "agents", params(AgentPath),
    responses((status = 200, description = "The agent", body = AgentView), AgentError))]
pub(crate) async fn get_agent(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<AgentPath>,
) -> Result<Json<AgentView>, Problem> {
    Ok(Json(app.agents.find(&caller.namespace, &path.agent).await?))
}
