//! What the protocol answers.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::fake_http::Reply;

impl Reply {
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

    /// The list of models.
    pub fn models(names: &[&str]) -> Self {
        let data: Vec<Value> = names.iter().map(|name| json!({ "id": name, "object": "model" })).collect();
        Self::raw(200, "application/json", json!({ "object": "list", "data": data }).to_string())
    }

    /// The vectors of texts, the first one last; they are numbered.
    pub fn embeddings(vectors: &[Value]) -> Self {
        let entry =
            |(index, vector): (usize, &Value)| json!({ "object": "embedding", "index": index, "embedding": vector });
        let data: Vec<Value> = vectors.iter().enumerate().rev().map(entry).collect();
        let body = json!({ "object": "list", "data": data, "model": "fake-vectors",
            "usage": { "prompt_tokens": 8, "total_tokens": 8 } });
        Self::json(200, &body)
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
