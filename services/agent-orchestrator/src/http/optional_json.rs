//! A JSON body that may be left out.

use axum::body::HttpBody;
use axum::extract::{FromRequest, Request};
use axum::http::header;
use common::extract::StrictJson;
use common::problem::Problem;
use serde::de::DeserializeOwned;

/// The body, or the default when there is none: `curl -X POST` without data sends neither a body nor a type.
pub(crate) struct OptionalJson<T>(pub(crate) T);

impl<T, S> FromRequest<S> for OptionalJson<T>
where
    T: DeserializeOwned + Default,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if request.body().is_end_stream() && !request.headers().contains_key(header::CONTENT_TYPE) {
            return Ok(Self(T::default()));
        }
        StrictJson::from_request(request, state).await.map(|StrictJson(body)| Self(body))
    }
}
