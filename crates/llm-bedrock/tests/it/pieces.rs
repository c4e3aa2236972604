//! A stream may arrive in any pieces, and be damaged anywhere. That it may end anywhere is in the suite of all providers.

use std::time::Duration;

use llm::LlmError;
use serde_json::json;
use testkit::fake_bedrock as fake;
use testkit::fake_http::Reply;

use crate::support::{hear, request, start};

fn whole() -> Reply {
    let blocks = [
        vec![fake::message_start()],
        fake::thinking_block(0, "Hm hm", "c2ln"),
        fake::text_block(1, "Grüße ✓ you"),
        fake::tool_block(2, "a", "pay", r#"{"amount": 12.5, "to": {"name": "Zoë"}}"#),
        fake::tool_block(3, "b", "wait", "{}"),
        vec![fake::message_stop("tool_use")],
    ];
    let usage = fake::metadata(&json!({ "inputTokens": 3, "outputTokens": 4 }));
    fake::stream(&[blocks.concat(), vec![usage]].concat())
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
        server.push(whole().in_pieces(bytes, Duration::ZERO));
        let (heard, answer) = hear(&model, &request()).await;
        let answer = answer.unwrap();
        assert_eq!((heard.as_str(), answer.text.as_str()), ("Grüße ✓ you", "Grüße ✓ you"));
        assert_eq!(answer.tool_calls[0].arguments, json!({ "amount": 12.5, "to": { "name": "Zoë" } }));
    }
}
