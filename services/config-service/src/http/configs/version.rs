//! Shows one version of an agent.

use axum::Json;
use axum::extract::State;
use common::extract::Path;
use common::problem::{self, Kind, Problem};
use domain::{AgentName, Namespace};

use super::find;
use crate::http::App;
use crate::http::views::{VersionDetail, VersionView};

/// Why a version cannot be shown.
pub(crate) struct GetVersionError;

impl utoipa::IntoResponses for GetVersionError {
    fn responses() -> problem::Responses {
        problem::responses(&[Kind::InvalidRequest, Kind::UnknownAgent, Kind::UnknownVersion, Kind::Unavailable])
    }
}

/// Shows one version of an agent; versions never change.
#[utoipa::path(get, path = "/configs/{name}/versions/{version}", operation_id = "config_version", tag = "configs",
    params(("name" = String, Path, description = "The agent"), ("version" = u32, Path, description = "Its number")),
    responses((status = 200, description = "The version", body = VersionDetail), GetVersionError))]
pub(crate) async fn get_version(
    State(app): State<App>,
    Path((name, number)): Path<(AgentName, u32)>,
) -> Result<Json<VersionDetail>, Problem> {
    let active = find(&app, &name)?.version.version;
    let version = app.agents.version(&Namespace::default(), &name, number).await?;
    let version = version.ok_or_else(|| {
        Problem::new(Kind::UnknownVersion).detail(format!("{name} has no version {number}; its newest is {active}"))
    })?;
    Ok(Json(VersionDetail { version: VersionView::new(&version, active), spec: version.spec.clone() }))
}
