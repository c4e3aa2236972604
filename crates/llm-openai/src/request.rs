//! What can keep a request of either protocol from being said.

use llm_http::ImageError;

/// Why a request cannot be said in the protocol's words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("the request cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}
