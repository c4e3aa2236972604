//! Request headers that endpoints read.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use common::problem::Problem;

use crate::app::Resume;

/// The header `Idempotency-Key`, at most one.
#[derive(Debug)]
pub(crate) struct IdempotencyKey(pub(crate) Option<String>);

/// The header `Last-Event-ID`, at most one.
#[derive(Debug)]
pub(crate) struct LastEventId(pub(crate) Option<Resume>);

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        single(parts, "Idempotency-Key").map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        const NAME: &str = "Last-Event-ID";
        // Browsers send an empty one when no event had an id yet.
        let Some(text) = single(parts, NAME)?.filter(|text| !text.is_empty()) else { return Ok(Self(None)) };
        let resume = text.parse().map_err(|error| Problem::invalid(pointer(NAME), format!("{error}")))?;
        Ok(Self(Some(resume)))
    }
}

fn single(parts: &Parts, name: &str) -> Result<Option<String>, Problem> {
    let mut values = parts.headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::invalid(pointer(name), "comes more than once"));
    }
    let text = value.to_str().map_err(|_| Problem::invalid(pointer(name), "must be printable ASCII"))?;
    Ok(Some(text.to_owned()))
}

fn pointer(name: &str) -> String {
    format!("header.{name}")
}
