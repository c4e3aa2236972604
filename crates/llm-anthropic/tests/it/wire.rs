//! The protocol to the last byte: the suite that all providers behind HTTP run.

use std::sync::Arc;

use async_trait::async_trait;
use llm::contract::wire::{self, Connected, HttpReply, Recording, Told, Wired};
use serde_json::json;
use testkit::fake_anthropic as fake;

use crate::support::start;

struct Messages;

#[async_trait]
impl Wired for Messages {
    async fn connect(&self) -> Connected {
        let (server, model) = start().await;
        Connected { model: Arc::new(model), name: "claude-fake-1".to_owned(), server: Box::new(server) }
    }

    fn record(&self, told: &Told) -> Option<Recording> {
        let mut blocks = Vec::new();
        if let Some(thought) = &told.thought {
            blocks.push(fake::thinking_block(blocks.len(), thought, told.seal.as_deref().unwrap_or("c2ln")));
        }
        if !told.text.is_empty() {
            blocks.push(fake::text_block(blocks.len(), &told.text));
        }
        for (id, name, input) in &told.calls {
            blocks.push(fake::tool_block(blocks.len(), id, name, input));
        }
        // What came from the cache is counted beside the rest.
        let cached = told.cached_tokens.unwrap_or(0);
        let rest = told.input_tokens.as_u64().map_or_else(|| told.input_tokens.clone(), |all| json!(all - cached));
        let begun =
            json!({ "input_tokens": rest, "cache_read_input_tokens": told.cached_tokens, "output_tokens": null });
        let ended = json!({ "output_tokens": told.output_tokens });
        let stop_reason = if told.calls.is_empty() { "end_turn" } else { "tool_use" };
        let events =
            [vec![fake::message_start(&begun)], blocks.concat(), fake::message_end(stop_reason, &ended)].concat();
        let frames: Vec<Vec<u8>> =
            events.iter().map(|event| fake::stream(std::slice::from_ref(event)).body().to_vec()).collect();
        let end = frames.len() - 2;
        Some(Recording { content_type: "text/event-stream".to_owned(), frames, end })
    }

    fn error(&self, status: u16, words: &str) -> HttpReply {
        let kind = match status {
            401 => "authentication_error",
            429 => "rate_limit_error",
            529 => "overloaded_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        };
        HttpReply::new(status, "application/json", fake::error(status, kind, words).body())
    }

    fn knows_effort(&self) -> bool {
        // The protocol has no budget for thinking that is smaller than the suite's limit for the whole answer.
        false
    }
}

#[tokio::test]
async fn what_is_meant_is_said() {
    wire::meaning(&Messages).await;
}

#[tokio::test]
async fn a_stream_cut_at_any_byte_runs_nothing() {
    wire::cuts(&Messages).await;
}

#[tokio::test]
async fn garbage_is_no_answer() {
    wire::garbage(&Messages).await;
}

#[tokio::test]
async fn neither_too_much_nor_silence_is_borne() {
    wire::excess(&Messages).await;
}

#[tokio::test]
async fn statuses_mean_what_they_mean() {
    wire::statuses(&Messages).await;
}
