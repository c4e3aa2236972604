//! The protocol to the last byte: the suite that all providers behind HTTP run.

use std::sync::Arc;

use async_trait::async_trait;
use llm::contract::wire::{self, Connected, HttpReply, KEY, Recording, Told, Wired};
use llm_ollama::ApiKey;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use testkit::fake_ollama as fake;

use crate::support::{adapter, config};

struct Native;

#[async_trait]
impl Wired for Native {
    async fn connect(&self) -> Connected {
        let server = fake::start().await;
        let model = adapter(config(server.base_url()).with_api_key(ApiKey::new(KEY)));
        Connected { model: Arc::new(model), name: "fake-small".to_owned(), server: Box::new(server) }
    }

    fn record(&self, told: &Told) -> Option<Recording> {
        // The protocol has no place for what is sealed.
        if told.seal.is_some() {
            return None;
        }
        let thought = told.thought.as_deref().map(fake::thought).unwrap_or_default();
        let lines = [thought, fake::said(&told.text)].concat();
        let mut frames: Vec<Vec<u8>> = lines.iter().map(frame).collect();
        for (_, name, arguments) in &told.calls {
            // Arguments are JSON within JSON here, so only what is JSON can be said.
            let _: Box<RawValue> = serde_json::from_str(arguments).ok()?;
            let line = fake::called(&[(name, json!("ARGUMENTS"))]).remove(0).to_string();
            // As they are, so that a key may come twice.
            frames.push(format!("{}\n", line.replace("\"ARGUMENTS\"", arguments)).into_bytes());
        }
        let counts = json!({ "prompt_eval_count": told.input_tokens, "eval_count": told.output_tokens });
        let end = frames.len();
        frames.push(frame(&fake::done("stop", &counts)));
        // The protocol does not tell what came from a cache.
        told.cached_tokens.is_none().then_some(Recording {
            content_type: "application/x-ndjson".to_owned(),
            frames,
            end,
        })
    }

    fn error(&self, status: u16, words: &str) -> HttpReply {
        HttpReply::new(status, "application/json", json!({ "error": words }).to_string())
    }

    fn vectors(&self, vectors: &[Value]) -> Option<HttpReply> {
        Some(HttpReply::new(200, "application/json", fake::embedded(&json!(vectors), 7).body()))
    }
}

fn frame(line: &Value) -> Vec<u8> {
    format!("{line}\n").into_bytes()
}

#[tokio::test]
async fn what_is_meant_is_said() {
    wire::meaning(&Native).await;
}

#[tokio::test]
async fn a_stream_cut_at_any_byte_runs_nothing() {
    wire::cuts(&Native).await;
}

#[tokio::test]
async fn garbage_is_no_answer() {
    wire::garbage(&Native).await;
}

#[tokio::test]
async fn neither_too_much_nor_silence_is_borne() {
    wire::excess(&Native).await;
}

#[tokio::test]
async fn statuses_mean_what_they_mean() {
    wire::statuses(&Native).await;
}

#[tokio::test]
async fn vectors_are_whole_and_in_order() {
    wire::vectors(&Native).await;
}
