//! A server that speaks OpenAI's protocols (chat completions, responses, embeddings, the list of models) and misbehaves
//! on demand.
//!
//! ```no_run
//! # async fn example() {
//! use testkit::fake_openai::{FakeOpenAi, Reply};
//!
//! let server = FakeOpenAi::start().await;
//! server.push(Reply::rate_limited("1"));
//! server.push(Reply::text("Hello there."));
//! // Point a client (or `OPENAI_BASE_URL`) at server.base_url() ...
//! assert_eq!(server.requests()[0].path, "/v1/chat/completions");
//! # }
//! ```

mod reply;
pub mod responses;

use std::time::Duration;

use serde_json::{Value, json};

use crate::fake_http::FakeHttp;
pub use crate::fake_http::{Reply, Seen};

/// The server; it stops when it is dropped.
pub struct FakeOpenAi {
    http: FakeHttp,
}

impl FakeOpenAi {
    /// Starts on a free port of this machine.
    ///
    /// # Panics
    ///
    /// When there is no free port.
    pub async fn start() -> Self {
        Self { http: FakeHttp::start(Box::new(rules), usual).await }
    }

    /// What a client's base URL must be, for example `http://127.0.0.1:4711/v1`.
    pub fn base_url(&self) -> String {
        format!("{}/v1", self.http.base_url())
    }

    /// Answers one request for a chat, a response or embeddings; those before it in the queue come first.
    pub fn push(&self, reply: Reply) {
        self.http.push(reply);
    }

    /// Answers such requests for which nothing is in the queue; `ok` and vectors of one number until this is called.
    pub fn otherwise(&self, responder: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        self.http.otherwise(responder);
    }

    /// The requests received so far.
    pub fn requests(&self) -> Vec<Seen> {
        self.http.requests()
    }

    /// Waits until so many requests were received, and returns them.
    ///
    /// # Panics
    ///
    /// When that takes longer than the deadline.
    pub async fn wait_for_requests(&self, count: usize, deadline: Duration) -> Vec<Seen> {
        self.http.wait_for_requests(count, deadline).await
    }

    /// The server itself.
    pub fn into_http(self) -> FakeHttp {
        self.http
    }
}

impl Seen {
    /// The text of the last message of a chat.
    pub fn last_message(&self) -> &str {
        self.body["messages"].as_array().and_then(|all| all.last()?["content"].as_str()).unwrap_or_default()
    }
}

fn rules(seen: &Seen) -> Option<Reply> {
    match (seen.method.as_str(), seen.path.as_str()) {
        ("POST", "/v1/chat/completions" | "/v1/responses" | "/v1/embeddings") => None,
        ("GET", "/v1/models") => Some(Reply::models(&["fake-large", "fake-small"])),
        _ => Some(Reply::error(404, "not_found", "no such path")),
    }
}

fn usual(seen: &Seen) -> Reply {
    match seen.path.as_str() {
        "/v1/responses" => responses::text("ok"),
        "/v1/embeddings" => {
            let texts = seen.body["input"].as_array().into_iter().flatten();
            let lengths: Vec<Value> = texts.map(|text| json!([text.as_str().map_or(0, str::len)])).collect();
            Reply::embeddings(&lengths)
        }
        _ => Reply::text("ok"),
    }
}
