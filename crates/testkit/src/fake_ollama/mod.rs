//! A server that speaks Ollama's own protocol, refuses what the real one refuses, and misbehaves on demand.
//!
//! ```no_run
//! # async fn example() {
//! use testkit::fake_ollama;
//!
//! let server = fake_ollama::start().await;
//! server.push(fake_ollama::error(500, "the runner has crashed"));
//! server.push(fake_ollama::text("Hello there."));
//! // Point a client at server.base_url() ...
//! assert_eq!(server.requests()[0].path, "/api/chat");
//! # }
//! ```

mod rules;

use std::fmt::Write;

use serde_json::{Value, json};

use crate::fake_http::{FakeHttp, Reply};

/// The models that are there.
pub const MODELS: [&str; 2] = ["fake-small:latest", "fake-large:8b"];

/// Starts on a free port of this machine; answers `ok` until it is told something else.
pub async fn start() -> FakeHttp {
    FakeHttp::start(Box::new(rules::check), |_| text("ok")).await
}

/// A stream of these lines, each at its own moment.
pub fn stream(lines: &[Value]) -> Reply {
    let mut body = String::new();
    for (index, line) in lines.iter().enumerate() {
        let mut line = line.clone();
        if let Some(moment) = line.get_mut("created_at") {
            *moment = json!(format!("2026-01-01T00:00:00.{index:09}Z"));
        }
        let _ = writeln!(body, "{line}");
    }
    raw_lines(body)
}

/// A stream of exactly this text.
pub fn raw_lines(text: impl Into<Vec<u8>>) -> Reply {
    Reply::raw(200, "application/x-ndjson", text)
}

/// A text, word by word, with usage.
pub fn text(text: &str) -> Reply {
    stream(&[said(text), vec![done("stop", &counts(12, 5))]].concat())
}

/// Tool calls as (name, arguments), with usage.
pub fn tool_calls(calls: &[(&str, Value)]) -> Reply {
    stream(&[called(calls), vec![done("stop", &counts(12, 5))]].concat())
}

/// An error as Ollama gives it.
pub fn error(status: u16, message: &str) -> Reply {
    Reply::json(status, &json!({ "error": message }))
}

/// The lines of a text, word by word.
pub fn said(text: &str) -> Vec<Value> {
    text.split_inclusive(' ').map(|word| line(&json!({ "role": "assistant", "content": word }))).collect()
}

/// The lines of a thought, word by word.
pub fn thought(text: &str) -> Vec<Value> {
    let words = text.split_inclusive(' ');
    words.map(|word| line(&json!({ "role": "assistant", "content": "", "thinking": word }))).collect()
}

/// The lines of tool calls, one call each.
pub fn called(calls: &[(&str, Value)]) -> Vec<Value> {
    let one = |(name, arguments): &(&str, Value)| {
        let call = json!({ "function": { "name": name, "arguments": arguments } });
        line(&json!({ "role": "assistant", "content": "", "tool_calls": [call] }))
    };
    calls.iter().map(one).collect()
}

/// A line of an answer.
pub fn line(message: &Value) -> Value {
    json!({ "model": "fake-small:latest", "created_at": "2026-01-01T00:00:00.5Z", "message": message, "done": false })
}

/// The counts of an answer.
pub fn counts(input: i64, output: i64) -> Value {
    json!({ "prompt_eval_count": input, "eval_count": output })
}

/// The line that ends an answer.
pub fn done(reason: &str, counts: &Value) -> Value {
    let mut line = line(&json!({ "role": "assistant", "content": "" }));
    line["done"] = json!(true);
    line["done_reason"] = json!(reason);
    for name in ["total_duration", "load_duration", "prompt_eval_duration", "eval_duration"] {
        line[name] = json!(1_000_000);
    }
    for (name, count) in counts.as_object().into_iter().flatten() {
        line[name] = count.clone();
    }
    line
}

/// The lines of a fetch that goes well.
pub fn pulled() -> Reply {
    let digest = "sha256:aa11";
    let part = |done: u64| json!({ "status": "pulling aa11", "digest": digest, "total": 100, "completed": done });
    stream(&[
        json!({ "status": "pulling manifest" }),
        json!({ "status": "pulling aa11", "digest": digest, "total": 100 }),
        part(40),
        part(100),
        json!({ "status": "pulling bb22", "digest": "sha256:bb22", "total": 20, "completed": 20 }),
        json!({ "status": "verifying sha256 digest" }),
        json!({ "status": "writing manifest" }),
        json!({ "status": "success" }),
    ])
}

/// Vectors of texts.
pub fn embedded(vectors: &Value, input: i64) -> Reply {
    let body =
        json!({ "model": "fake-small:latest", "embeddings": vectors, "total_duration": 1, "prompt_eval_count": input });
    Reply::json(200, &body)
}
