//! The servers that bring tools.

use axum::Json;
use axum::extract::State;
use wire::ToolServerView;

use super::view;
use crate::http::App;

/// Lists the servers that bring tools, with what agents can use of them and what waits for approval.
///
/// Starts none of them. A tool that its server describes differently from what was accepted is `changed`, and no agent can
/// use it until it is approved.
#[utoipa::path(get, path = "/tools", operation_id = "tool_list", tag = "tools",
    responses((status = 200, description = "The declared servers, by name", body = Vec<ToolServerView>)))]
pub(crate) async fn list_tools(State(app): State<App>) -> Json<Vec<ToolServerView>> {
    Json(app.servers.list().await.into_iter().map(view).collect())
}
