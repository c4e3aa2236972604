//! A stream may be cut anywhere: then there is no answer, and no tool call.

use std::time::Duration;

use llm::LlmError;
use serde_json::json;
use testkit::fake_http::Reply;
use testkit::fake_ollama as fake;

use crate::support::{hear, request, start};

fn whole() -> Reply {
    let calls = fake::called(&[("pay", json!({ "amount": 12.5, "to": { "name": "Zoë" } })), ("wait", json!({}))]);
    let lines =
        [fake::thought("Hm hm"), fake::said("Grüße ✓ you"), calls, vec![fake::done("stop", &fake::counts(3, 4))]];
    fake::stream(&lines.concat())
}

#[tokio::test]
async fn a_stream_that_ends_early_at_any_byte_is_no_answer() {
    let (server, model) = start().await;
    for end in 0..whole().body().len() {
        server.push(whole().cut_at(end));
        let (_, answer) = hear(&model, &request()).await;
        assert!(matches!(answer, Err(LlmError::Invalid { .. })), "cut at {end}: {answer:?}");
    }
    server.push(whole());
    assert_eq!(hear(&model, &request()).await.1.unwrap().tool_calls.len(), 2);
}

#[tokio::test]
async fn a_connection_that_breaks_at_any_byte_gives_no_answer() {
    let (server, model) = start().await;
    for end in 0..whole().body().len() {
        server.push(whole().broken_at(end));
        let (_, answer) = hear(&model, &request()).await;
        let fails = matches!(answer, Err(LlmError::Invalid { .. } | LlmError::Unavailable { .. }));
        assert!(fails, "broken at {end}: {answer:?}");
    }
}

#[tokio::test]
async fn a_stream_may_arrive_in_any_pieces() {
    let (server, model) = start().await;
    for bytes in [1, 2, 3, 7, 64] {
        server.push(whole().in_pieces(bytes, Duration::ZERO));
        let (heard, answer) = hear(&model, &request()).await;
        let answer = answer.unwrap();
        assert_eq!((heard.as_str(), answer.text.as_str()), ("Grüße ✓ you", "Grüße ✓ you"));
        assert_eq!(answer.tool_calls[0].arguments, json!({ "amount": 12.5, "to": { "name": "Zoë" } }));
    }
}
