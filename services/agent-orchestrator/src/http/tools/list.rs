//! The servers that bring tools.

use axum::Json;
use axum::extract::State;
use common::problem::{Kind, Problem, Responses, responses};
use wire::ToolServerView;

use super::{problem, view};
use crate::http::App;

/// What can go wrong.
pub(crate) struct ListToolsError;

impl utoipa::IntoResponses for ListToolsError {
    fn responses() -> Responses {
        responses(&[Kind::Unavailable])
    }
}

/// Lists the servers that bring tools, with what agents can use of them and what waits for approval.
///
/// Starts none of them. Where pools are processes of their own, one of them is asked: without any the answer is 503.
/// A tool that its server describes differently from what was accepted is `changed`, and no agent can
/// use it until it is approved.
#[utoipa::path(get, path = "/tools", operation_id = "tool_list", tag = "tools",
    responses((status = 200, description = "The declared servers, by name", body = Vec<ToolServerView>), ListToolsError))]
pub(crate) async fn list_tools(State(app): State<App>) -> Result<Json<Vec<ToolServerView>>, Problem> {
    let servers = app.servers.list().await.map_err(|error| problem(&error))?;
    Ok(Json(servers.into_iter().map(view).collect()))
}
