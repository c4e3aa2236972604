//! What the fake server answers, to the byte.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

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
        Self {
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body: body.into(),
            before: Duration::ZERO,
            piece: usize::MAX,
            between: Duration::ZERO,
            end: End::Proper,
        }
    }

    /// A stream of these chunks, and `[DONE]`.
    pub fn stream(chunks: &[Value]) -> Self {
        let mut body = String::new();
        for chunk in chunks {
            let _ = write!(body, "data: {chunk}\n\n");
        }
        body.push_str("data: [DONE]\n\n");
        Self::events(body)
    }

    /// A stream of exactly this text.
    pub fn events(text: impl Into<Vec<u8>>) -> Self {
        Self::raw(200, "text/event-stream", text)
    }

    /// A text, word by word, with usage.
    pub fn text(text: &str) -> Self {
        Self::stream(&[Self::text_chunks(text), vec![Self::finish("stop"), Self::usage(12, 5)]].concat())
    }

    /// Tool calls as (id, name, arguments), in small pieces, with usage.
    pub fn tool_calls(calls: &[(&str, &str, &str)]) -> Self {
        let ends = vec![Self::finish("tool_calls"), Self::usage(12, 5)];
        Self::stream(&[Self::call_chunks(calls), ends].concat())
    }

    /// An error as OpenAI gives it.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let body = json!({ "error": { "message": message, "type": "error", "param": null, "code": code } });
        Self::raw(status, "application/json", body.to_string())
    }

    /// 429 with this `Retry-After`.
    pub fn rate_limited(retry_after: &str) -> Self {
        Self::error(429, "rate_limit_exceeded", "slow down").header("retry-after", retry_after)
    }

    /// A web page with status 200, as a captive portal gives.
    pub fn html() -> Self {
        Self::raw(200, "text/html", "<!doctype html><html><body>Please log in.</body></html>")
    }

    /// The list of models.
    pub fn models(names: &[&str]) -> Self {
        let data: Vec<Value> = names.iter().map(|name| json!({ "id": name, "object": "model" })).collect();
        Self::raw(200, "application/json", json!({ "object": "list", "data": data }).to_string())
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

    /// The chunks of a text, word by word.
    pub fn text_chunks(text: &str) -> Vec<Value> {
        let mut chunks = vec![Self::chunk(&json!({ "role": "assistant", "content": "" }))];
        chunks.extend(text.split_inclusive(' ').map(|word| Self::chunk(&json!({ "content": word }))));
        chunks
    }

    /// The chunks of tool calls, in small pieces.
    pub fn call_chunks(calls: &[(&str, &str, &str)]) -> Vec<Value> {
        let mut chunks = vec![Self::chunk(&json!({ "role": "assistant", "content": null }))];
        for (index, (id, name, arguments)) in calls.iter().enumerate() {
            let head =
                json!({ "index": index, "id": id, "type": "function", "function": { "name": name, "arguments": "" } });
            chunks.push(Self::chunk(&json!({ "tool_calls": [head] })));
            let letters: Vec<char> = arguments.chars().collect();
            for piece in letters.chunks(7) {
                let piece: String = piece.iter().collect();
                let call = json!({ "index": index, "function": { "arguments": piece } });
                chunks.push(Self::chunk(&json!({ "tool_calls": [call] })));
            }
        }
        chunks
    }

    /// A chunk of an answer.
    pub fn chunk(delta: &Value) -> Value {
        json!({ "id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "fake-large",
            "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] })
    }

    /// The chunk that ends an answer.
    pub fn finish(reason: &str) -> Value {
        json!({ "id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "fake-large",
            "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] })
    }

    /// The chunk that tells the usage.
    pub fn usage(input: i64, output: i64) -> Value {
        json!({ "id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "fake-large", "choices": [],
            "usage": { "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output } })
    }
}
