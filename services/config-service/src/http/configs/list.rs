//! Lists agents.

use axum::Json;
use axum::extract::State;

use crate::http::App;
use crate::http::views::ConfigView;

/// Lists the agents of the folder, by name.
#[utoipa::path(get, path = "/configs", operation_id = "config_list", tag = "configs",
    responses((status = 200, description = "All agents", body = Vec<ConfigView>)))]
pub(crate) async fn list_configs(State(app): State<App>) -> Json<Vec<ConfigView>> {
    Json(app.catalogue.view().agents.values().map(ConfigView::from).collect())
}
