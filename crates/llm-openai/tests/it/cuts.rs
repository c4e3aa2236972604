//! A stream may be cut anywhere: then there is no answer, and no tool call.

use llm::{ChatModel, LlmError};
use testkit::fake_openai::Reply;

use crate::support::{hear, request, start};

const CALLS: [(&str, &str, &str); 2] =
    [("call_a", "pay", r#"{"amount": 12.5, "to": {"name": "Zoë"}}"#), ("call_b", "wait", "{}")];

fn find(reply: &Reply, text: &str) -> usize {
    let body = reply.body();
    let at = body.windows(text.len()).position(|part| part == text.as_bytes()).expect("the text is in the body");
    at + body[at..].windows(2).position(|two| two == b"\n\n").expect("the event ends") + 2
}

#[tokio::test]
async fn a_tool_call_stream_that_ends_early_at_any_byte_runs_nothing() {
    let (server, model) = start().await;
    let whole = Reply::tool_calls(&CALLS);
    let said_why = find(&whole, "\"finish_reason\":\"tool_calls\"");
    for end in 0..=whole.body().len() {
        server.push(whole.clone().cut_at(end));
        let answer = model.chat(&request(), &|_| {}).await;
        if end < said_why {
            assert!(matches!(answer, Err(LlmError::Invalid { .. })), "cut at {end}: {answer:?}");
        } else {
            // The model has said why it ended: the calls are whole, whatever of the rest is missing.
            let answer = answer.expect("whole");
            let calls: Vec<_> = answer.tool_calls.iter().map(|call| call.arguments.to_string()).collect();
            let meant = CALLS.map(|(_, _, text)| text.parse::<serde_json::Value>().expect("JSON").to_string());
            assert_eq!(calls, meant, "cut at {end}");
            assert_eq!(answer.usage.estimated, end < find(&whole, "\"usage\""), "cut at {end}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_breaks_at_any_byte_before_the_end_runs_nothing() {
    let (server, model) = start().await;
    let whole = Reply::tool_calls(&CALLS);
    let done = find(&whole, "[DONE]");
    for end in 0..=whole.body().len() {
        server.push(whole.clone().broken_at(end));
        let answer = model.chat(&request(), &|_| {}).await;
        match answer {
            Err(LlmError::Invalid { .. }) => assert!(end < done, "broken at {end}"),
            Ok(answer) => assert!(end >= done && answer.tool_calls.len() == 2, "broken at {end}"),
            other => panic!("broken at {end}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_text_that_is_cut_is_streamed_but_no_answer() {
    let (server, model) = start().await;
    let whole = Reply::text("It is sunny.");
    server.push(whole.clone().cut_at(find(&whole, "sunny")));
    let (heard, answer) = hear(&model, &request()).await;
    assert_eq!(heard, "It is sunny.");
    assert!(matches!(answer, Err(LlmError::Invalid { .. })), "{answer:?}");
    assert_eq!(server.requests().len(), 1, "what was begun aloud is not silently begun anew");
}

#[tokio::test]
async fn the_size_of_the_pieces_on_the_wire_changes_nothing() {
    let (server, model) = start().await;
    let whole = Reply::tool_calls(&CALLS);
    server.push(whole.clone());
    let expected = model.chat(&request(), &|_| {}).await.expect("whole");
    for size in [1, 2, 3, 7, 64] {
        server.push(whole.clone().in_pieces(size, std::time::Duration::ZERO));
        assert_eq!(model.chat(&request(), &|_| {}).await.expect("whole"), expected, "pieces of {size}");
    }
}
