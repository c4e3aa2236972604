//! A stream may arrive in any pieces. That it may end anywhere is in the suite of all providers.

use std::time::Duration;

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
