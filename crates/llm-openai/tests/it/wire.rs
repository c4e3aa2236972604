//! Both protocols to the last byte: the suite that all providers behind HTTP run.

use std::time::Duration;

use async_trait::async_trait;
use llm::contract::wire::{self, Connected, HttpReply, KEY, Recording, Told, Wired};
use llm_openai::{ApiKey, OpenAi, OpenAiConfig, Responses, http_client};
use serde_json::{Value, json};
use testkit::fake_openai::{FakeOpenAi, Reply, responses};

/// Chat completions.
struct Chat;

/// Responses.
struct Sealed;

async fn server() -> (FakeOpenAi, OpenAiConfig) {
    let server = FakeOpenAi::start().await;
    let mut config = OpenAiConfig::new("fake", server.base_url()).with_api_key(ApiKey::new(KEY));
    config.first_pause = Duration::from_millis(2);
    (server, config)
}

fn error(status: u16, words: &str) -> HttpReply {
    let error = json!({ "message": words, "type": "error", "param": null, "code": null });
    HttpReply::new(status, "application/json", json!({ "error": error }).to_string())
}

fn vectors(vectors: &[Value]) -> HttpReply {
    HttpReply::new(200, "application/json", Reply::embeddings(vectors).body())
}

#[async_trait]
impl Wired for Chat {
    async fn connect(&self) -> Connected {
        let (server, config) = server().await;
        let model = OpenAi::new(config, http_client().expect("a client")).expect("a good configuration");
        Connected {
            model: std::sync::Arc::new(model),
            name: "fake-large".to_owned(),
            server: Box::new(server.into_http()),
        }
    }

    fn record(&self, told: &Told) -> Option<Recording> {
        // The protocol has no place for what is sealed.
        if told.seal.is_some() {
            return None;
        }
        let thought = told.thought.iter().map(|thought| Reply::chunk(&json!({ "reasoning_content": thought })));
        let text = Some(Reply::text_chunks(&told.text)).filter(|_| !told.text.is_empty());
        let calls: Vec<_> = told.calls.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
        let called = Some(Reply::call_chunks(&calls)).filter(|_| !calls.is_empty());
        let mut chunks: Vec<Value> =
            thought.chain(text.into_iter().flatten()).chain(called.into_iter().flatten()).collect();
        let end = chunks.len();
        chunks.push(Reply::finish(if calls.is_empty() { "stop" } else { "tool_calls" }));
        let mut usage = Reply::usage(0, 0);
        usage["usage"] = json!({ "prompt_tokens": told.input_tokens, "completion_tokens": told.output_tokens,
            "prompt_tokens_details": { "cached_tokens": told.cached_tokens } });
        chunks.push(usage);
        let mut frames: Vec<Vec<u8>> = chunks.iter().map(|chunk| format!("data: {chunk}\n\n").into_bytes()).collect();
        frames.push(b"data: [DONE]\n\n".to_vec());
        Some(Recording { content_type: "text/event-stream".to_owned(), frames, end })
    }

    fn error(&self, status: u16, words: &str) -> HttpReply {
        error(status, words)
    }

    fn vectors(&self, list: &[Value]) -> Option<HttpReply> {
        Some(vectors(list))
    }
}

#[async_trait]
impl Wired for Sealed {
    async fn connect(&self) -> Connected {
        let (server, config) = server().await;
        let model = Responses::new(config, http_client().expect("a client")).expect("a good configuration");
        Connected {
            model: std::sync::Arc::new(model),
            name: "fake-large".to_owned(),
            server: Box::new(server.into_http()),
        }
    }

    fn record(&self, told: &Told) -> Option<Recording> {
        let thought = told.thought.iter().map(|thought| responses::reasoning(thought, told.seal.as_deref()));
        let text = Some(responses::message(&told.text)).filter(|_| !told.text.is_empty());
        let calls = told.calls.iter().map(|(id, name, arguments)| responses::call(id, name, arguments));
        let items: Vec<Value> = thought.chain(text).chain(calls).collect();
        let mut usage = responses::usage(&told.input_tokens, &told.output_tokens);
        usage["input_tokens_details"]["cached_tokens"] = json!(told.cached_tokens);
        let events = responses::answer(&items, &usage);
        let frames: Vec<Vec<u8>> = responses::frames(&events).into_iter().map(String::into_bytes).collect();
        let end = frames.len() - 1;
        Some(Recording { content_type: "text/event-stream".to_owned(), frames, end })
    }

    fn error(&self, status: u16, words: &str) -> HttpReply {
        error(status, words)
    }

    fn vectors(&self, list: &[Value]) -> Option<HttpReply> {
        Some(vectors(list))
    }

    fn notices_repeated_frames(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn chat_completions_say_what_is_meant() {
    wire::meaning(&Chat).await;
}

#[tokio::test]
async fn a_chat_cut_at_any_byte_runs_nothing() {
    wire::cuts(&Chat).await;
}

#[tokio::test]
async fn garbage_in_a_chat_is_no_answer() {
    wire::garbage(&Chat).await;
}

#[tokio::test]
async fn a_chat_bears_neither_too_much_nor_silence() {
    wire::excess(&Chat).await;
}

#[tokio::test]
async fn a_chat_knows_what_statuses_mean() {
    wire::statuses(&Chat).await;
}

#[tokio::test]
async fn vectors_beside_chats_are_whole_and_in_order() {
    wire::vectors(&Chat).await;
}

#[tokio::test]
async fn responses_say_what_is_meant() {
    wire::meaning(&Sealed).await;
}

#[tokio::test]
async fn a_response_cut_at_any_byte_runs_nothing() {
    wire::cuts(&Sealed).await;
}

#[tokio::test]
async fn garbage_in_a_response_is_no_answer() {
    wire::garbage(&Sealed).await;
}

#[tokio::test]
async fn a_response_bears_neither_too_much_nor_silence() {
    wire::excess(&Sealed).await;
}

#[tokio::test]
async fn a_response_knows_what_statuses_mean() {
    wire::statuses(&Sealed).await;
}

#[tokio::test]
async fn vectors_beside_responses_are_whole_and_in_order() {
    wire::vectors(&Sealed).await;
}
