//! Errors that leave a service: `application/problem+json` (RFC 9457) with a stable `type`.
//!
//! One list of kinds for all services, so that a client learns them once and every one of them has a page.

mod documented;
mod kind;
mod state;

use std::fmt;
use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(crate) use documented::complete;
pub use documented::{Responses, responses};
pub use kind::Kind;

/// An error as a caller sees it. Cheap to make; most endpoints convert their own error enum into it.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Which error.
    pub kind: Kind,
    /// This occurrence, for a person: with the values needed to look, never a secret.
    pub detail: Option<String>,
    /// What is wrong with the request, place by place.
    pub errors: Vec<Fault>,
    /// When another try may go better; becomes `Retry-After`, rounded up to seconds.
    pub retry_after: Option<Duration>,
    /// The request's trace; the server fills it in.
    pub trace_id: Option<String>,
}

/// One fault of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// Where: a JSON pointer into the body (`/input/prompt`), or `path.NAME`, `query.NAME`, `header.NAME`.
    #[schema(example = "/input/prompt")]
    pub pointer: String,
    /// Why it is not accepted.
    #[schema(example = "missing field `prompt`")]
    pub reason: String,
    /// What was probably meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Fault {
    fn shortened(&self) -> Self {
        let (pointer, reason) = (shortened(&self.pointer), shortened(&self.reason));
        Self { pointer, reason, hint: self.hint.as_deref().map(shortened) }
    }
}

/// Keeps an answer small whatever the request repeats: names in it may be as long as the request.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 1_000;
    if text.len() <= LONGEST { text.to_owned() } else { format!("{}…", &text[..text.floor_char_boundary(LONGEST)]) }
}

/// An error's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Names the error for programs; relative to the server, which shows its page there.
    #[serde(rename = "type")]
    #[schema(example = "/errors/unknown-task")]
    pub kind: String,
    /// The error in words; the same for every occurrence.
    #[schema(example = "The task does not exist")]
    pub title: String,
    /// The HTTP status.
    #[schema(example = 404)]
    pub status: u16,
    /// This occurrence in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What is wrong with the request, place by place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Fault>,
    /// Finds the request in the logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "4bf92f3577b34da6a3ce929d0e0e4736")]
    pub trace_id: Option<String>,
}

impl Problem {
    /// Makes a problem without particulars.
    pub const fn new(kind: Kind) -> Self {
        Self { kind, detail: None, errors: Vec::new(), retry_after: None, trace_id: None }
    }

    /// Makes an `invalid-request` with one fault at `pointer`; add more with [`Problem::fault`].
    pub fn invalid(pointer: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(Kind::InvalidRequest).fault(pointer, reason)
    }

    /// Describes this occurrence.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a fault.
    #[must_use]
    pub fn fault(mut self, pointer: impl Into<String>, reason: impl Into<String>) -> Self {
        self.errors.push(Fault { pointer: pointer.into(), reason: reason.into(), hint: None });
        self
    }

    /// Adds what was probably meant to the last fault.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Some(last) = self.errors.last_mut() {
            last.hint = Some(hint.into());
        }
        self
    }

    /// Says when another try may go better.
    #[must_use]
    pub const fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The body as it is sent.
    pub fn body(&self) -> ProblemBody {
        ProblemBody {
            kind: format!("/errors/{}", self.kind.slug()),
            title: self.kind.title().to_owned(),
            status: self.kind.status(),
            detail: self.detail.as_deref().map(shortened),
            errors: self.errors.iter().map(Fault::shortened).collect(),
            trace_id: self.trace_id.clone(),
        }
    }

    pub(crate) fn render(&self) -> Response {
        let mut response = (self.status(), Json(self.body())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.render();
        // The server finds it there and renders it again with the trace's id, which is not known here.
        response.extensions_mut().insert(self);
        response
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.slug())?;
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        for fault in &self.errors {
            write!(f, "; {}: {}", fault.pointer, fault.reason)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

impl From<Kind> for Problem {
    fn from(kind: Kind) -> Self {
        Self::new(kind)
    }
}
