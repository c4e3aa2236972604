//! The REST API: one endpoint a file.

mod stats;
mod values;

use std::sync::Arc;

use axum::Extension;
use common::extract::BodyLimit;
use state::State;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Deps;
use crate::app::Values;

/// The largest value, as JSON.
const VALUE_LIMIT: usize = 1 << 20;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct App {
    values: Values,
    state: Arc<dyn State>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "state-manager",
        description = "Versioned values for whoever needs to keep something, and what the record holds.\n\nEvery value has a \
            version, which is its `ETag`; a write with `If-Match` never overwrites what it has not seen. Errors are \
            `application/problem+json`; their `type` names a page at `/errors/`."
    ),
    tags(
        (name = "states", description = "Versioned values"),
        (name = "operations", description = "What the record holds")
    )
)]
struct Documentation;

/// The routes and their description.
pub(crate) fn api(deps: &Deps) -> OpenApiRouter {
    let app = App { values: Values::new(deps), state: Arc::clone(&deps.state) };
    OpenApiRouter::with_openapi(Documentation::openapi())
        .routes(routes!(values::get::get_state, values::put::put_state, values::delete::delete_state))
        .routes(routes!(values::list::list_states))
        .routes(routes!(stats::stats))
        .layer(Extension(BodyLimit(VALUE_LIMIT)))
        .with_state(app)
}
