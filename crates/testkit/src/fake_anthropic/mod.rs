//! A server that speaks Anthropic's Messages protocol, refuses what the real one refuses, and misbehaves on demand.
//!
//! ```no_run
//! # async fn example() {
//! use testkit::fake_anthropic;
//!
//! let server = fake_anthropic::start().await;
//! server.push(fake_anthropic::rate_limited("1"));
//! server.push(fake_anthropic::text("Hello there."));
//! // Point a client at server.base_url(), with the key fake_anthropic::KEY ...
//! assert_eq!(server.requests()[0].path, "/v1/messages");
//! # }
//! ```

mod rules;

use std::fmt::Write;

use serde_json::{Value, json};

use crate::fake_http::{FakeHttp, Reply};

/// The key that is accepted.
pub const KEY: &str = llm::contract::wire::KEY;
/// The models that are listed, in two pages.
pub const MODELS: [&str; 3] = ["claude-fake-2", "claude-fake-1", "claude-fake-0"];

/// Starts on a free port of this machine; answers `ok` until it is told something else.
pub async fn start() -> FakeHttp {
    FakeHttp::start(Box::new(rules::check), |_| text("ok")).await
}

/// A stream of these events.
pub fn stream(events: &[Value]) -> Reply {
    let mut body = String::new();
    for event in events {
        let kind = event["type"].as_str().unwrap_or_default();
        let _ = write!(body, "event: {kind}\ndata: {event}\n\n");
    }
    raw_events(body)
}

/// A stream of exactly this text.
pub fn raw_events(text: impl Into<Vec<u8>>) -> Reply {
    Reply::raw(200, "text/event-stream; charset=utf-8", text)
}

/// A text, word by word, with usage.
pub fn text(text: &str) -> Reply {
    answer(&[text_block(0, text)], "end_turn")
}

/// Tool calls as (id, name, arguments), in small pieces, with usage.
pub fn tool_calls(calls: &[(&str, &str, &str)]) -> Reply {
    let blocks: Vec<_> =
        calls.iter().enumerate().map(|(index, (id, name, input))| tool_block(index, id, name, input)).collect();
    answer(&blocks, "tool_use")
}

/// A whole answer of these blocks, with usage.
pub fn answer(blocks: &[Vec<Value>], stop_reason: &str) -> Reply {
    let begin = vec![message_start(&json!({ "input_tokens": 12, "output_tokens": 1 })), ping()];
    stream(&[begin, blocks.concat(), message_end(stop_reason, &json!({ "output_tokens": 5 }))].concat())
}

/// An error as Anthropic gives it.
pub fn error(status: u16, kind: &str, message: &str) -> Reply {
    let error = json!({ "type": kind, "message": message });
    Reply::json(status, &json!({ "type": "error", "error": error, "request_id": "req_1" }))
}

/// 429 with this `retry-after`.
pub fn rate_limited(retry_after: &str) -> Reply {
    error(429, "rate_limit_error", "slow down").header("retry-after", retry_after)
}

/// The event that begins an answer.
pub fn message_start(usage: &Value) -> Value {
    json!({ "type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-fake-1", "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage,
    } })
}

/// The events that end an answer.
pub fn message_end(stop_reason: &str, usage: &Value) -> Vec<Value> {
    let delta = json!({ "stop_reason": stop_reason, "stop_sequence": null });
    vec![json!({ "type": "message_delta", "delta": delta, "usage": usage }), json!({ "type": "message_stop" })]
}

/// A sign of life.
pub fn ping() -> Value {
    json!({ "type": "ping" })
}

/// An error in the middle of a stream.
pub fn error_event(kind: &str, message: &str) -> Value {
    json!({ "type": "error", "error": { "type": kind, "message": message } })
}

/// A block of text, word by word.
pub fn text_block(index: usize, text: &str) -> Vec<Value> {
    let words = text.split_inclusive(' ').map(|word| json!({ "type": "text_delta", "text": word }));
    block(index, &json!({ "type": "text", "text": "" }), words.collect())
}

/// A tool call, in small pieces.
pub fn tool_block(index: usize, id: &str, name: &str, input: &str) -> Vec<Value> {
    let letters: Vec<char> = input.chars().collect();
    let mut deltas = vec![json!({ "type": "input_json_delta", "partial_json": "" })];
    deltas.extend(letters.chunks(7).map(|piece| {
        let piece: String = piece.iter().collect();
        json!({ "type": "input_json_delta", "partial_json": piece })
    }));
    block(index, &json!({ "type": "tool_use", "id": id, "name": name, "input": {} }), deltas)
}

/// A thought, in pieces, and its signature.
pub fn thinking_block(index: usize, thought: &str, signature: &str) -> Vec<Value> {
    let mut deltas: Vec<Value> =
        thought.split_inclusive(' ').map(|word| json!({ "type": "thinking_delta", "thinking": word })).collect();
    deltas.push(json!({ "type": "signature_delta", "signature": signature }));
    block(index, &json!({ "type": "thinking", "thinking": "", "signature": "" }), deltas)
}

/// A thought that nobody may read.
pub fn redacted_block(index: usize, data: &str) -> Vec<Value> {
    block(index, &json!({ "type": "redacted_thinking", "data": data }), Vec::new())
}

/// Any block.
pub fn block(index: usize, start: &Value, deltas: Vec<Value>) -> Vec<Value> {
    let mut events = vec![json!({ "type": "content_block_start", "index": index, "content_block": start })];
    events.extend(
        deltas.into_iter().map(|delta| json!({ "type": "content_block_delta", "index": index, "delta": delta })),
    );
    events.push(json!({ "type": "content_block_stop", "index": index }));
    events
}
