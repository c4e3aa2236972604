//! Serves the JSON Schema of agents' files, for editors.

use std::sync::LazyLock;

use axum::response::IntoResponse;
use http::header;

/// The JSON Schema of an agent's file.
///
/// Editors complete and check a file whose first line is
/// `# yaml-language-server: $schema=http://localhost:8002/schema/agent.json`.
#[utoipa::path(get, path = "/schema/agent.json", operation_id = "agent_schema", tag = "configs",
    responses((status = 200, description = "A JSON Schema of the draft 2020-12", body = Object,
        content_type = "application/schema+json")))]
pub(crate) async fn agent_schema() -> impl IntoResponse {
    static SCHEMA: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", domain::agent::json_schema()));
    let headers = [(header::CONTENT_TYPE, "application/schema+json"), (header::CACHE_CONTROL, "max-age=60")];
    (headers, SCHEMA.as_str())
}
