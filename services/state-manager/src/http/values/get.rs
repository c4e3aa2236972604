//! Reads a value.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use common::extract::Path;
use common::problem::{self, Kind, Problem};
use domain::Timestamp;

use super::{ValuePath, conditions, namespace};
use crate::http::App;

/// Why a value cannot be read.
pub(crate) struct GetStateError;

impl utoipa::IntoResponses for GetStateError {
    fn responses() -> problem::Responses {
        problem::responses(&[Kind::InvalidRequest, Kind::UnknownValue, Kind::Unavailable])
    }
}

/// Reads a value.
///
/// The body is the value itself. Its version is the `ETag`, and `Expires` says when it disappears, if it does. A reader that
/// sends the tag it knows as `If-None-Match` is answered 304 when nothing has changed.
#[utoipa::path(get, path = "/states/{scope}/{key}", operation_id = "state_get", tag = "states", params(ValuePath),
    responses(
        (status = 200, description = "The value", body = serde_json::Value,
            headers(("ETag" = String, description = "The version, in quotes"))),
        (status = 304, description = "The version is the one in `If-None-Match`"),
        GetStateError
    ))]
#[tracing::instrument(name = "http.state.get", skip_all)]
pub(crate) async fn get_state(
    State(app): State<App>,
    Path(path): Path<ValuePath>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let value = app.values.get(&namespace(), path.scope, path.key).await?;
    let mut response = if conditions::is_known(&headers, value.version) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Json(&value.value).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, conditions::etag(value.version));
    headers.extend(http_date(value.updated_at).map(|date| (header::LAST_MODIFIED, date)));
    headers.extend(value.expires_at.and_then(http_date).map(|date| (header::EXPIRES, date)));
    // It may be kept, but must be asked for again with its tag.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}

fn http_date(at: Timestamp) -> Option<HeaderValue> {
    HeaderValue::try_from(at.format("%a, %d %b %Y %H:%M:%S GMT").to_string()).ok()
}
