//! Shows an agent.

use axum::Json;
use axum::extract::State;
use common::extract::Path;
use common::problem::{self, Kind, Problem};
use domain::AgentName;

use super::find;
use crate::http::App;
use crate::http::views::ConfigDetail;

/// Why an agent cannot be shown.
pub(crate) struct GetConfigError;

impl utoipa::IntoResponses for GetConfigError {
    fn responses() -> problem::Responses {
        problem::responses(&[Kind::InvalidRequest, Kind::UnknownAgent])
    }
}

/// Shows an agent with everything that its active version says, and what is wrong with its file.
#[utoipa::path(get, path = "/configs/{name}", operation_id = "config_get", tag = "configs",
    params(("name" = String, Path, description = "The agent")),
    responses((status = 200, description = "The agent", body = ConfigDetail), GetConfigError))]
pub(crate) async fn get_config(
    State(app): State<App>,
    Path(name): Path<AgentName>,
) -> Result<Json<ConfigDetail>, Problem> {
    Ok(Json(ConfigDetail::from(&find(&app, &name)?)))
}
