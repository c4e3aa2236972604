//! A stream may be cut anywhere: then there is no answer, and no tool call.

use llm::LlmError;
use testkit::fake_anthropic as fake;

use crate::support::{hear, request, start};

const CALLS: [(&str, &str, &str); 2] =
    [("toolu_a", "pay", r#"{"amount": 12.5, "to": {"name": "Zoë"}}"#), ("toolu_b", "wait", "{}")];

#[tokio::test]
async fn a_tool_call_stream_that_ends_early_at_any_byte_runs_nothing() {
    let (server, model) = start().await;
    let whole = fake::tool_calls(&CALLS);
    for end in 0..whole.body().len() {
        server.push(whole.clone().cut_at(end));
        let (_, answer) = hear(&model, &request()).await;
        assert!(matches!(answer, Err(LlmError::Invalid { .. })), "cut at {end}: {answer:?}");
    }
    server.push(whole);
    assert_eq!(hear(&model, &request()).await.1.unwrap().tool_calls.len(), CALLS.len());
}

#[tokio::test]
async fn a_connection_that_breaks_at_any_byte_gives_no_answer() {
    let (server, model) = start().await;
    let blocks = [
        fake::thinking_block(0, "Hm hm", "c2ln"),
        fake::text_block(1, "Hi you"),
        fake::tool_block(2, "a", "pay", "{}"),
    ];
    let whole = fake::answer(&blocks, "tool_use");
    for end in 0..whole.body().len() {
        server.push(whole.clone().broken_at(end));
        let (_, answer) = hear(&model, &request()).await;
        let fails = matches!(answer, Err(LlmError::Invalid { .. } | LlmError::Unavailable { .. }));
        assert!(fails, "broken at {end}: {answer:?}");
    }
}

#[tokio::test]
async fn a_stream_may_arrive_in_any_pieces() {
    let (server, model) = start().await;
    let whole = fake::answer(
        &[fake::text_block(0, "Grüße ✓ you"), fake::tool_block(1, "a", "pay", r#"{"to":"Zoë"}"#)],
        "tool_use",
    );
    for bytes in [1, 2, 3, 7, 64] {
        server.push(whole.clone().in_pieces(bytes, std::time::Duration::ZERO));
        let (heard, answer) = hear(&model, &request()).await;
        let answer = answer.unwrap();
        assert_eq!((heard.as_str(), answer.text.as_str()), ("Grüße ✓ you", "Grüße ✓ you"));
        assert_eq!(answer.tool_calls[0].arguments, serde_json::json!({ "to": "Zoë" }));
    }
}
