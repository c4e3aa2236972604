//! A stream may be cut or damaged anywhere: then there is no answer, and no tool call.

use std::time::Duration;

use llm::LlmError;
use serde_json::json;
use testkit::fake_bedrock as fake;
use testkit::fake_http::Reply;

use crate::support::{hear, request, start};

/// A whole answer, and where the frame ends that says why it ended.
fn whole() -> (Reply, usize) {
    let blocks = [
        vec![fake::message_start()],
        fake::thinking_block(0, "Hm hm", "c2ln"),
        fake::text_block(1, "Grüße ✓ you"),
        fake::tool_block(2, "a", "pay", r#"{"amount": 12.5, "to": {"name": "Zoë"}}"#),
        fake::tool_block(3, "b", "wait", "{}"),
        vec![fake::message_stop("tool_use")],
    ];
    let end = blocks.concat().concat().len();
    let usage = fake::metadata(&json!({ "inputTokens": 3, "outputTokens": 4 }));
    (fake::stream(&[blocks.concat(), vec![usage]].concat()), end)
}

#[tokio::test]
async fn a_stream_that_ends_early_at_any_byte_is_no_answer() {
    let (server, model) = start().await;
    let (whole, said_why) = whole();
    for end in 0..=whole.body().len() {
        server.push(whole.clone().cut_at(end));
        let (_, answer) = hear(&model, &request()).await;
        if end < said_why {
            assert!(matches!(answer, Err(LlmError::Invalid { .. })), "cut at {end}: {answer:?}");
        } else {
            let answer = answer.unwrap();
            assert_eq!(
                (answer.tool_calls.len(), answer.usage.estimated),
                (2, end < whole.body().len()),
                "cut at {end}"
            );
        }
    }
}

#[tokio::test]
async fn a_connection_that_breaks_at_any_byte_gives_no_answer() {
    let (server, model) = start().await;
    let (whole, _) = whole();
    for end in 0..whole.body().len() {
        server.push(whole.clone().broken_at(end));
        let (_, answer) = hear(&model, &request()).await;
        let fails = matches!(answer, Err(LlmError::Invalid { .. } | LlmError::Unavailable { .. }));
        assert!(fails, "broken at {end}: {answer:?}");
    }
}

#[tokio::test]
async fn a_byte_that_is_wrong_anywhere_is_noticed() {
    let (server, model) = start().await;
    let call = fake::tool_block(0, "a", "pay", r#"{"amount": 1}"#);
    let whole = fake::stream(&[vec![fake::message_start()], call, vec![fake::message_stop("tool_use")]].concat());
    for at in 0..whole.body().len() {
        let mut bytes = whole.body().to_vec();
        bytes[at] ^= 0x10;
        server.push(fake::raw_stream(bytes));
        let (_, answer) = hear(&model, &request()).await;
        match answer {
            Err(LlmError::Invalid { .. }) => {}
            other => panic!("wrong at {at}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_stream_may_arrive_in_any_pieces() {
    let (server, model) = start().await;
    for bytes in [1, 2, 3, 7, 64] {
        server.push(whole().0.in_pieces(bytes, Duration::ZERO));
        let (heard, answer) = hear(&model, &request()).await;
        let answer = answer.unwrap();
        assert_eq!((heard.as_str(), answer.text.as_str()), ("Grüße ✓ you", "Grüße ✓ you"));
        assert_eq!(answer.tool_calls[0].arguments, json!({ "amount": 12.5, "to": { "name": "Zoë" } }));
    }
}
