//! The REST API: one endpoint a file.

mod configs;
mod schema;
mod views;

use std::sync::Arc;

use state::agents::Agents;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Catalogue;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) agents: Arc<Agents>,
    pub(crate) catalogue: Catalogue,
    pub(crate) servers: Arc<[String]>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "config-service",
        description = "The agents, as the files in the agents' folder say.\n\nA file that is wrong changes nothing but the \
            list of errors: its agent's last good version stays in service. Errors are `application/problem+json`; their \
            `type` names a page at `/errors/`."
    ),
    tags((name = "configs", description = "Agents' files and their versions"))
)]
struct Documentation;

/// The routes and their description.
pub(crate) fn api(app: App) -> OpenApiRouter {
    OpenApiRouter::with_openapi(Documentation::openapi())
        .routes(routes!(configs::list::list_configs))
        .routes(routes!(configs::errors::list_errors))
        .routes(routes!(configs::validate::validate_config))
        .routes(routes!(configs::get::get_config))
        .routes(routes!(configs::versions::list_versions))
        .routes(routes!(configs::version::get_version))
        .routes(routes!(schema::agent_schema))
        .with_state(app)
}
