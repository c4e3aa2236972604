//! Accepts what a server says of its tools.

use axum::Json;
use axum::extract::State;
use common::extract::Path;
use common::problem::{Kind, Problem, Responses, responses};
use serde::Deserialize;
use utoipa::IntoParams;
use wire::{ApproveTools, ToolServerView};

use super::{problem, view};
use crate::http::App;
use crate::http::optional_json::OptionalJson;

/// Names a server.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ServerPath {
    /// The server's name.
    #[param(example = "files")]
    server: String,
}

/// What can go wrong.
pub(crate) struct ApproveToolsError;

impl utoipa::IntoResponses for ApproveToolsError {
    fn responses() -> Responses {
        responses(&[Kind::InvalidRequest, Kind::UnknownTool, Kind::Unavailable])
    }
}

/// Accepts what a server says of one of its tools, or of all of them, as it was last listed.
///
/// Agents can use them from now on, until the server says something else again. A tool that the server no longer has is
/// forgotten. Approving twice is harmless. The body may be left out.
#[utoipa::path(post, path = "/tools/{server}/approve", operation_id = "tool_approve", tag = "tools", params(ServerPath),
    request_body(content = Option<ApproveTools>),
    responses((status = 200, description = "The server after it", body = ToolServerView), ApproveToolsError))]
#[tracing::instrument(name = "http.tool.approve", skip_all)]
pub(crate) async fn approve_tools(
    State(app): State<App>,
    Path(path): Path<ServerPath>,
    OptionalJson(body): OptionalJson<ApproveTools>,
) -> Result<Json<ToolServerView>, Problem> {
    let approved = app.servers.approve(&path.server, body.tool.as_deref()).await;
    let server = approved.map_err(|error| problem(&error))?;
    tracing::info!(server = %server.name, tool = body.tool, "tools approved");
    Ok(Json(view(server)))
}
