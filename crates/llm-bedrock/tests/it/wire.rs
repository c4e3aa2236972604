//! The protocol to the last byte: the suite that all providers behind HTTP run.

use std::sync::Arc;

use async_trait::async_trait;
use llm::contract::wire::{self, Connected, HttpReply, Recording, Told, Wired};
use serde_json::json;
use testkit::fake_bedrock::{self as fake, MODEL};

use crate::support::start;

struct Converse;

#[async_trait]
impl Wired for Converse {
    async fn connect(&self) -> Connected {
        let (server, model) = start().await;
        Connected { model: Arc::new(model), name: MODEL.to_owned(), server: Box::new(server) }
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
        let usage = json!({ "inputTokens": rest, "cacheReadInputTokens": told.cached_tokens, "outputTokens": told.output_tokens });
        let stop_reason = if told.calls.is_empty() { "end_turn" } else { "tool_use" };
        let mut frames = [vec![fake::message_start()], blocks.concat()].concat();
        let end = frames.len();
        frames.extend([fake::message_stop(stop_reason), fake::metadata(&usage)]);
        Some(Recording { content_type: "application/vnd.amazon.eventstream".to_owned(), frames, end })
    }

    fn error(&self, status: u16, words: &str) -> HttpReply {
        let code = match status {
            429 => "ThrottlingException",
            403 => "AccessDeniedException",
            404 => "ResourceNotFoundException",
            503 => "ServiceUnavailableException",
            500.. => "InternalServerException",
            _ => "ValidationException",
        };
        let error = HttpReply::new(status, "application/json", json!({ "message": words }).to_string());
        error.header("x-amzn-errortype", code)
    }

    fn knows_effort(&self) -> bool {
        // No budget for thinking is smaller than the suite's limit for the whole answer.
        false
    }
}

#[tokio::test]
async fn what_is_meant_is_said() {
    wire::meaning(&Converse).await;
}

#[tokio::test]
async fn a_stream_cut_at_any_byte_runs_nothing() {
    wire::cuts(&Converse).await;
}

#[tokio::test]
async fn garbage_is_no_answer() {
    wire::garbage(&Converse).await;
}

#[tokio::test]
async fn neither_too_much_nor_silence_is_borne() {
    wire::excess(&Converse).await;
}

#[tokio::test]
async fn statuses_mean_what_they_mean() {
    wire::statuses(&Converse).await;
}
