//! Lists what is wrong with files.

use axum::Json;
use axum::extract::State;

use crate::http::App;
use crate::http::views::FileError;

/// Lists what is wrong with files, by file and place; empty when all is well.
#[utoipa::path(get, path = "/configs/errors", operation_id = "config_errors", tag = "configs",
    responses((status = 200, description = "All errors", body = Vec<FileError>)))]
pub(crate) async fn list_errors(State(app): State<App>) -> Json<Vec<FileError>> {
    Json(app.catalogue.view().problems.iter().map(FileError::from).collect())
}
