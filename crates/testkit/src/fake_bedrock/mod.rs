//! A server that speaks AWS Bedrock's `ConverseStream`: it checks the signature of each request, refuses what the real one
//! refuses, answers with an event stream whose checksums are right, and misbehaves on demand.
//!
//! Signatures and checksums are calculated here from their specifications, so that they are a second opinion on the
//! libraries that a client uses.
//!
//! ```no_run
//! # async fn example() {
//! use testkit::fake_bedrock;
//!
//! let server = fake_bedrock::start().await;
//! server.push(fake_bedrock::error(429, "ThrottlingException", "Too many requests"));
//! server.push(fake_bedrock::text("Hello there."));
//! // Point a client at server.base_url(), with KEY_ID, SECRET and REGION ...
//! assert!(server.requests()[0].path.ends_with("/converse-stream"));
//! # }
//! ```

mod frame;
mod rules;
mod signature;

use serde_json::{Value, json};

use crate::fake_http::{FakeHttp, Reply};

/// The id of the key that is accepted.
pub const KEY_ID: &str = "AKIDFAKE0000000000AA";
/// The key that is accepted.
pub const SECRET: &str = llm::contract::wire::KEY;
/// The id of a key that was good once.
pub const STALE_KEY_ID: &str = "AKIDSTALE000000000AA";
/// The session token that is accepted, where there is one.
pub const TOKEN: &str = "canary-session-token==";
/// The region that requests are signed for.
pub const REGION: &str = "eu-central-1";
/// The model that is spoken with.
pub const MODEL: &str = "eu.anthropic.claude-fake-1-v1:0";

/// Starts on a free port of this machine; answers `ok` until it is told something else.
pub async fn start() -> FakeHttp {
    FakeHttp::start(Box::new(rules::check), |_| text("ok")).await
}

/// An event stream of these frames.
pub fn stream(frames: &[Vec<u8>]) -> Reply {
    raw_stream(frames.concat())
}

/// An event stream of exactly these bytes.
pub fn raw_stream(bytes: impl Into<Vec<u8>>) -> Reply {
    Reply::raw(200, "application/vnd.amazon.eventstream", bytes)
}

/// A text, word by word, with usage.
pub fn text(text: &str) -> Reply {
    answer(&[text_block(0, text)], "end_turn")
}

/// Tool calls as (id, name, input), in small pieces, with usage.
pub fn tool_calls(calls: &[(&str, &str, &str)]) -> Reply {
    let blocks: Vec<_> =
        calls.iter().enumerate().map(|(index, (id, name, input))| tool_block(index, id, name, input)).collect();
    answer(&blocks, "tool_use")
}

/// A whole answer of these blocks, with usage.
pub fn answer(blocks: &[Vec<Vec<u8>>], stop_reason: &str) -> Reply {
    let usage = json!({ "inputTokens": 12, "outputTokens": 5, "totalTokens": 17 });
    stream(&[vec![message_start()], blocks.concat(), vec![message_stop(stop_reason), metadata(&usage)]].concat())
}

/// An error as AWS gives it.
pub fn error(status: u16, code: &str, message: &str) -> Reply {
    let kind = format!("{code}:http://internal.amazon.com/coral/com.amazon.bedrock/");
    Reply::json(status, &json!({ "message": message })).header("x-amzn-errortype", &kind)
}

/// The frame that begins an answer.
pub fn message_start() -> Vec<u8> {
    event("messageStart", &json!({ "role": "assistant" }))
}

/// The frame that says why an answer ended.
pub fn message_stop(stop_reason: &str) -> Vec<u8> {
    event("messageStop", &json!({ "stopReason": stop_reason }))
}

/// The frame with the usage.
pub fn metadata(usage: &Value) -> Vec<u8> {
    event("metadata", &json!({ "usage": usage, "metrics": { "latencyMs": 7 } }))
}

/// A block of text, word by word.
pub fn text_block(index: usize, text: &str) -> Vec<Vec<u8>> {
    let words = text.split_inclusive(' ').map(|word| json!({ "text": word }));
    block(index, None, words.collect())
}

/// A tool call, in small pieces.
pub fn tool_block(index: usize, id: &str, name: &str, input: &str) -> Vec<Vec<u8>> {
    let letters: Vec<char> = input.chars().collect();
    let pieces = letters.chunks(7).map(|piece| json!({ "toolUse": { "input": piece.iter().collect::<String>() } }));
    block(index, Some(&json!({ "toolUse": { "toolUseId": id, "name": name } })), pieces.collect())
}

/// A thought, in pieces, and its signature.
pub fn thinking_block(index: usize, thought: &str, signature: &str) -> Vec<Vec<u8>> {
    let mut deltas: Vec<Value> =
        thought.split_inclusive(' ').map(|word| json!({ "reasoningContent": { "text": word } })).collect();
    deltas.push(json!({ "reasoningContent": { "signature": signature } }));
    block(index, None, deltas)
}

/// A thought that nobody may read.
pub fn redacted_block(index: usize, data: &str) -> Vec<Vec<u8>> {
    block(index, None, vec![json!({ "reasoningContent": { "redactedContent": data } })])
}

/// Any block. Only some have a start.
pub fn block(index: usize, start: Option<&Value>, deltas: Vec<Value>) -> Vec<Vec<u8>> {
    let start = start.map(|start| event("contentBlockStart", &json!({ "contentBlockIndex": index, "start": start })));
    let delta = |delta| event("contentBlockDelta", &json!({ "contentBlockIndex": index, "delta": delta, "p": "abc" }));
    let stop = event("contentBlockStop", &json!({ "contentBlockIndex": index }));
    start.into_iter().chain(deltas.into_iter().map(delta)).chain([stop]).collect()
}

/// An event as a frame.
pub fn event(kind: &str, payload: &Value) -> Vec<u8> {
    let headers = [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")];
    frame::encode(&headers, payload.to_string().as_bytes())
}

/// An exception as a frame.
pub fn exception(kind: &str, message: &str) -> Vec<u8> {
    let headers = [(":exception-type", kind), (":content-type", "application/json"), (":message-type", "exception")];
    frame::encode(&headers, json!({ "message": message }).to_string().as_bytes())
}

/// An error without a type of its own as a frame.
pub fn error_frame(code: &str, message: &str) -> Vec<u8> {
    frame::encode(&[(":error-code", code), (":error-message", message), (":message-type", "error")], b"")
}

/// A frame of any headers and payload.
pub fn raw_frame(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    frame::encode(headers, payload)
}
