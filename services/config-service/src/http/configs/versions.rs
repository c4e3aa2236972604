//! Lists an agent's versions.

use axum::Json;
use axum::extract::State;
use common::extract::{Path, Query};
use common::page::Limit;
use common::problem::{self, Kind, Problem};
use domain::{AgentName, Namespace};
use serde::Deserialize;
use utoipa::IntoParams;

use super::find;
use crate::http::App;
use crate::http::views::VersionView;

/// Which versions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListVersionsQuery {
    /// Only this one.
    version: Option<u32>,
    /// Only those below this one, to read further.
    before: Option<u32>,
    /// How many, 1 to 1000.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    limit: Limit,
}

/// Why versions cannot be listed.
pub(crate) struct ListVersionsError;

impl utoipa::IntoResponses for ListVersionsError {
    fn responses() -> problem::Responses {
        problem::responses(&[Kind::InvalidRequest, Kind::UnknownAgent, Kind::Unavailable])
    }
}

/// Lists an agent's versions, the newest first.
#[utoipa::path(get, path = "/configs/{name}/versions", operation_id = "config_versions", tag = "configs",
    params(("name" = String, Path, description = "The agent"), ListVersionsQuery),
    responses((status = 200, description = "Its versions", body = Vec<VersionView>), ListVersionsError))]
pub(crate) async fn list_versions(
    State(app): State<App>,
    Path(name): Path<AgentName>,
    Query(query): Query<ListVersionsQuery>,
) -> Result<Json<Vec<VersionView>>, Problem> {
    let active = find(&app, &name)?.version.version;
    let below = query.before.unwrap_or(u32::MAX).min(active.saturating_add(1));
    let numbers: Vec<u32> = match query.version {
        Some(number) => vec![number],
        None => (1..below).rev().take(query.limit.get() as usize).collect(),
    };
    let mut versions = Vec::with_capacity(numbers.len());
    for number in numbers {
        let version = app.agents.version(&Namespace::default(), &name, number).await?;
        versions.extend(version.map(|version| VersionView::new(&version, active)));
    }
    Ok(Json(versions))
}
