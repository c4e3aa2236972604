//! Deletes a value.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use common::extract::Path;
use common::problem::{self, Kind, Problem};

use super::{ValuePath, conditions, namespace};
use crate::app::Expected;
use crate::http::App;

/// Why a value cannot be deleted.
pub(crate) struct DeleteStateError;

impl utoipa::IntoResponses for DeleteStateError {
    fn responses() -> problem::Responses {
        problem::responses(&[
            Kind::InvalidRequest,
            Kind::UnknownValue,
            Kind::ReservedScope,
            Kind::VersionMismatch,
            Kind::Unavailable,
        ])
    }
}

/// Deletes a value; with `If-Match` only if it is still that version.
#[utoipa::path(delete, path = "/states/{scope}/{key}", operation_id = "state_delete", tag = "states",
    params(
        ValuePath,
        ("If-Match" = Option<String>, Header, description = "Delete this version only", example = "\"3\"")
    ),
    responses((status = 204, description = "Deleted"), DeleteStateError))]
#[tracing::instrument(name = "http.state.delete", skip_all)]
pub(crate) async fn delete_state(
    State(app): State<App>,
    Path(path): Path<ValuePath>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let expected = conditions::expected(&headers)?;
    if expected == Expected::Nothing {
        return Err(Problem::invalid("header.if-none-match", "makes no sense for a deletion"));
    }
    app.values.delete(&namespace(), path.scope, path.key, expected).await?;
    Ok(StatusCode::NO_CONTENT)
}
