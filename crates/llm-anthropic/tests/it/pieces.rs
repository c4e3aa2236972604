//! A stream may arrive in any pieces. That it may end anywhere is in the suite of all providers.

use testkit::fake_anthropic as fake;

use crate::support::{hear, request, start};

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
