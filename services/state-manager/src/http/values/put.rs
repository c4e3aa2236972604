//! Stores a value.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use common::extract::{Path, Query, StrictJson};
use common::problem::{self, Kind, Problem};
use domain::HumanDuration;
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::{ValuePath, VersionView, conditions, namespace};
use crate::http::App;

/// The terms of a put.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PutQuery {
    /// How long the value lives, such as `30s` or `7d`; for ever when it is left out.
    #[param(value_type = Option<String>, example = "1h")]
    ttl: Option<HumanDuration>,
}

/// Why a value cannot be stored.
pub(crate) struct PutStateError;

impl utoipa::IntoResponses for PutStateError {
    fn responses() -> problem::Responses {
        problem::responses(&[
            Kind::InvalidRequest,
            Kind::ReservedScope,
            Kind::VersionMismatch,
            Kind::BodyTooLarge,
            Kind::UnsupportedMediaType,
            Kind::Unavailable,
        ])
    }
}

/// Stores a value under its next version.
///
/// The body is the value itself, any JSON of up to 1 MiB. `If-Match` with an `ETag` replaces that version only, `If-Match: *`
/// only what exists, `If-None-Match: *` only what does not. Without a condition the last writer wins.
#[utoipa::path(put, path = "/states/{scope}/{key}", operation_id = "state_put", tag = "states",
    params(
        ValuePath,
        PutQuery,
        ("If-Match" = Option<String>, Header, description = "Replace this version only", example = "\"3\""),
        ("If-None-Match" = Option<String>, Header, description = "`*`: store only if there is nothing yet")
    ),
    request_body(content = serde_json::Value, description = "The value", example = json!({"score": 7})),
    responses(
        (status = 200, description = "Replaced", body = VersionView),
        (status = 201, description = "Stored where nothing was", body = VersionView),
        PutStateError
    ))]
#[tracing::instrument(name = "http.state.put", skip_all)]
pub(crate) async fn put_state(
    State(app): State<App>,
    Path(path): Path<ValuePath>,
    Query(query): Query<PutQuery>,
    headers: HeaderMap,
    StrictJson(value): StrictJson<Value>,
) -> Result<Response, Problem> {
    if query.ttl.is_some_and(|ttl| ttl.0.is_zero()) {
        return Err(Problem::invalid("query.ttl", "must be longer than nothing; DELETE removes a value"));
    }
    let ttl = query.ttl.map(|ttl| ttl.0);
    let expected = conditions::expected(&headers)?;
    let stored = app.values.put(&namespace(), (&path.scope, &path.key), value, ttl, expected).await?;
    let status = if stored.version == 1 { StatusCode::CREATED } else { StatusCode::OK };
    let tag = [(header::ETAG, conditions::etag(stored.version))];
    Ok((status, tag, Json(VersionView::from(&stored))).into_response())
}
