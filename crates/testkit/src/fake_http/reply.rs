//! What a fake server answers, to the byte.

use std::time::Duration;

use serde_json::Value;

/// One answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) before: Duration,
    pub(super) piece: usize,
    pub(super) between: Duration,
    pub(super) end: End,
}

/// What happens after the body, or in the middle of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The body ends as it should.
    Proper,
    /// The connection breaks after so many bytes.
    Broken(usize),
    /// Nothing more comes after so many bytes, and the connection stays.
    Silent(usize),
    /// Not even the head comes.
    NoHead,
    /// The connection is closed instead of an answer.
    Closed,
}

impl Reply {
    /// A body under a status and a content type.
    pub fn raw(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::bare(status, body).header("content-type", content_type)
    }

    /// A body under a status, without headers.
    pub(crate) fn bare(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            before: Duration::ZERO,
            piece: usize::MAX,
            between: Duration::ZERO,
            end: End::Proper,
        }
    }

    /// A JSON document.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::raw(status, "application/json", body.to_string())
    }

    /// A web page with status 200, as a captive portal gives.
    pub fn html() -> Self {
        Self::raw(200, "text/html", "<!doctype html><html><body>Please log in.</body></html>")
    }

    /// No answer at all, on a connection that stays.
    pub fn silence() -> Self {
        Self { end: End::NoHead, ..Self::raw(200, "text/plain", "") }
    }

    /// A connection that is closed instead of an answer.
    pub fn closed() -> Self {
        Self { end: End::Closed, ..Self::raw(200, "text/plain", "") }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Waits before the answer.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.before = delay;
        self
    }

    /// Sends the body in pieces of so many bytes.
    #[must_use]
    pub fn in_pieces(mut self, bytes: usize, between: Duration) -> Self {
        self.piece = bytes.max(1);
        self.between = between;
        self
    }

    /// Ends the body, as if it were whole, after so many bytes.
    #[must_use]
    pub fn cut_at(mut self, bytes: usize) -> Self {
        self.body.truncate(bytes);
        self
    }

    /// Breaks the connection after so many bytes of the body.
    #[must_use]
    pub fn broken_at(mut self, bytes: usize) -> Self {
        self.end = End::Broken(bytes);
        self
    }

    /// Falls silent after so many bytes of the body.
    #[must_use]
    pub fn silent_at(mut self, bytes: usize) -> Self {
        self.end = End::Silent(bytes);
        self
    }

    /// The whole body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}
