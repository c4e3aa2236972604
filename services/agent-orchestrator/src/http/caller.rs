//! Who asks.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use domain::Namespace;

/// The caller of an endpoint. Without authentication everyone is in the default namespace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    /// Whose tasks it sees.
    pub(crate) namespace: Namespace,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::default())
    }
}
