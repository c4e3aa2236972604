//! Strange answers: refused with a reason, or understood without guessing.

use domain::{FinishReason, Usage};
use llm::LlmError;
use serde_json::{Value, json};
use testkit::fake_anthropic as fake;
use testkit::fake_http::Reply;

use crate::support::{adapter, answer_to, config, hear, invalid, request, start};

fn begin() -> Vec<Value> {
    vec![fake::message_start(&json!({ "input_tokens": 12, "output_tokens": 1 }))]
}

fn end(stop_reason: &str) -> Vec<Value> {
    fake::message_end(stop_reason, &json!({ "output_tokens": 5 }))
}

fn stream(parts: &[Vec<Value>]) -> Reply {
    fake::stream(&parts.concat())
}

fn call(input: &str) -> Reply {
    fake::tool_calls(&[("toolu_1", "pay", input)])
}

#[tokio::test]
async fn arguments_that_are_not_one_json_object_are_never_mended() {
    for (input, told) in [
        (r#"{"amount": 1"#, "cut off"),
        (r#"{"amount": 1} done"#, "not one JSON document"),
        (r#"{"amount": 1}{"amount": 1}"#, "not one JSON document"),
        ("{'amount': 1}", "not one JSON document"),
        (r#"{"amount": 1, "amount": 2}"#, "a key twice"),
        (r#""{\"amount\": 1}""#, "a string instead of an object"),
        ("[1]", "a list instead of an object"),
        ("null", "null instead of an object"),
        (" ", "cut off"),
    ] {
        let reason = invalid(call(input)).await;
        assert!(reason.contains(told), "{input}: {reason}");
    }
}

#[tokio::test]
async fn a_call_without_pieces_has_the_arguments_of_its_start() {
    let answer = answer_to(call("")).await.unwrap();
    assert_eq!(answer.tool_calls[0].arguments, json!({}));
    let start = |input: &str| {
        let event = format!(
            "{{\"type\":\"content_block_start\",\"index\":0,\"content_block\":\
             {{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"pay\",\"input\":{input}}}}}"
        );
        let stop = fake::stream(&[vec![json!({ "type": "content_block_stop", "index": 0 })], end("tool_use")].concat());
        let begin = fake::stream(&begin());
        fake::raw_events([begin.body(), format!("data: {event}\n\n").as_bytes(), stop.body()].concat())
    };
    let whole = answer_to(start(r#"{"amount":7}"#)).await.unwrap();
    assert_eq!(whole.tool_calls[0].arguments, json!({ "amount": 7 }));
    assert!(invalid(start(r#"{"amount":7,"amount":8}"#)).await.contains("a key twice"));
    assert!(invalid(start("[]")).await.contains("a list instead of an object"));
}

#[tokio::test]
async fn tools_are_run_only_when_the_answer_ended_to_have_them_run() {
    let blocks = || vec![fake::tool_block(0, "toolu_1", "pay", "{}")];
    for (stop_reason, told) in [
        ("max_tokens", "none is run"),
        ("model_context_window_exceeded", "none is run"),
        ("pause_turn", "none is run"),
        ("refusal", "none is run"),
        ("end_turn", "did not end to have them run"),
        ("stop_sequence", "did not end to have them run"),
        ("because", "not known"),
    ] {
        let reason = invalid(fake::answer(&blocks(), stop_reason)).await;
        assert!(reason.contains(told), "{stop_reason}: {reason}");
    }
    assert!(invalid(fake::answer(&[fake::text_block(0, "Hi")], "tool_use")).await.contains("asked for none"));
    let no_stop = [begin(), blocks().concat(), vec![end("tool_use").remove(0)]];
    assert!(invalid(stream(&no_stop)).await.contains("cut off"));
    let no_reason = [begin(), blocks().concat(), vec![json!({ "type": "message_stop" })]];
    assert!(invalid(stream(&no_reason)).await.contains("cut off"));
}

#[tokio::test]
async fn the_reasons_of_an_end_are_told_apart() {
    for (stop_reason, finish) in [
        ("end_turn", FinishReason::Stop),
        ("stop_sequence", FinishReason::Stop),
        ("max_tokens", FinishReason::Length),
        ("model_context_window_exceeded", FinishReason::Length),
        ("pause_turn", FinishReason::Length),
        ("refusal", FinishReason::ContentFilter),
    ] {
        let answer = answer_to(fake::answer(&[fake::text_block(0, "Hi you")], stop_reason)).await.unwrap();
        assert_eq!((answer.text.as_str(), answer.finish), ("Hi you", finish), "{stop_reason}");
    }
    let refused = answer_to(fake::answer(&[], "refusal")).await.unwrap();
    assert_eq!((refused.text.as_str(), refused.finish), ("", FinishReason::ContentFilter));
}

#[tokio::test]
async fn tool_calls_need_ids_of_their_own_and_a_name() {
    for calls in [
        vec![("a", "pay", "{}"), ("a", "pay", "{}")],
        vec![("", "pay", "{}")],
        vec![(" ", "pay", "{}")],
        vec![("a", "", "{}")],
    ] {
        invalid(fake::tool_calls(&calls)).await;
    }
    let ids: Vec<String> = (0..10_000).map(|index| format!("toolu_{index}")).collect();
    let many: Vec<(&str, &str, &str)> = ids.iter().map(|id| (id.as_str(), "pay", "{}")).collect();
    assert!(invalid(fake::tool_calls(&many)).await.contains("more than 128 tool calls"));
}

#[tokio::test]
async fn events_out_of_order_are_no_answer() {
    let text = || fake::text_block(0, "Hi you");
    let tool = || fake::tool_block(0, "a", "pay", "{}");
    let (open, close) = (vec![text().remove(0)], vec![json!({ "type": "content_block_stop", "index": 0 })]);
    let delta = |delta: Value| vec![json!({ "type": "content_block_delta", "index": 0, "delta": delta })];
    let json_piece = delta(json!({ "type": "input_json_delta", "partial_json": "{}" }));
    for parts in [
        vec![text(), end("end_turn")],
        vec![begin(), begin(), text(), end("end_turn")],
        vec![begin(), open.clone(), open.clone(), close.clone(), end("end_turn")],
        vec![begin(), text(), text(), end("end_turn")],
        vec![begin(), open.clone(), json_piece.clone(), close.clone(), end("end_turn")],
        vec![begin(), open.clone(), end("end_turn")],
        vec![begin(), close.clone(), end("end_turn")],
        vec![begin(), json_piece, end("end_turn")],
        vec![begin(), tool(), vec![fake::text_block(2, "x").remove(0)], close, end("tool_use")],
        vec![begin(), text(), vec![end("end_turn").remove(0)], end("end_turn")],
        vec![begin(), text(), vec![end("end_turn").remove(0)], fake::text_block(1, "more"), end("end_turn")],
        vec![begin(), end("end_turn")],
        vec![begin(), end("max_tokens")],
        vec![begin()],
        vec![],
    ] {
        invalid(stream(&parts)).await;
    }
}

#[tokio::test]
async fn garbage_is_refused_and_not_repeated_in_the_error() {
    for garbage in [
        "canary not json",
        "{\"canary\": 1}",
        "{\"type\": [\"canary\"]}",
        "{\"type\": \"content_block_start\", \"index\": -1, \"content_block\": {\"type\": \"text\"}}",
        "{\"type\": \"content_block_start\", \"index\": 0, \"content_block\": \"canary\"}",
        "{\"type\": \"content_block_start\", \"index\": 0, \"content_block\": {\"type\": \"text\", \"text\": [\"canary\"]}}",
        "{\"type\": \"content_block_start\", \"index\": 0, \"content_block\": {\"type\": \"tool_use\", \"id\": \"canary\"}}",
        "{\"type\": \"content_block_delta\", \"index\": 0, \"delta\": {\"type\": \"text_delta\", \"text\": null}}",
        "{\"type\": \"message_delta\", \"delta\": \"canary\"}",
    ] {
        let (begun, rest) = (fake::stream(&begin()), fake::text("x"));
        let text = [begun.body(), format!("data: {garbage}\n\n").as_bytes(), rest.body()].concat();
        let reason = invalid(fake::raw_events(text)).await;
        assert!(!reason.contains("canary"), "{reason}");
    }
    invalid(fake::raw_events(b"data: \xff\xfe\n\n".to_vec())).await;
    assert!(invalid(Reply::html()).await.contains("web page"));
    assert!(invalid(Reply::raw(200, "application/json", "{}")).await.contains("document"));
    assert!(invalid(Reply::raw(204, "text/event-stream", "")).await.contains("204"));
    assert!(invalid(fake::raw_events("<!doctype html>\n\n<p>data: no</p>\n\n")).await.contains("cut off"));
}

#[tokio::test]
async fn what_servers_add_does_no_harm() {
    let unknown = json!({ "type": "something_new", "index": 7 });
    let citation = json!({ "type": "citations_delta", "citation": { "type": "page" } });
    let block = json!({ "type": "text", "text": "", "citations": null });
    let deltas = vec![json!({ "type": "text_delta", "text": "Hi you" }), citation];
    let other = fake::block(
        1,
        &json!({ "type": "server_tool_use", "id": "x", "name": "web_search" }),
        vec![json!({ "type": "input_json_delta", "partial_json": "{" })],
    );
    let parts = [begin(), vec![unknown, fake::ping()], fake::block(0, &block, deltas), other, end("end_turn")];
    let body = String::from_utf8(stream(&parts).body().to_vec()).unwrap();
    let body = format!("\u{feff}: hello\n\nretry: 3\n{}", body.replace('\n', "\r\n"));
    let answer = answer_to(fake::raw_events(body)).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.tool_calls.len()), ("Hi you", 0));
}

#[tokio::test]
async fn what_was_thought_is_kept_as_it_came() {
    let thought = json!({ "type": "thinking", "thinking": "Let me see.", "signature": "c2lnbmF0dXJl" });
    let hidden = json!({ "type": "redacted_thinking", "data": "aGlkZGVu" });
    let blocks = [
        fake::thinking_block(0, "Let me see.", "c2lnbmF0dXJl"),
        fake::redacted_block(1, "aGlkZGVu"),
        fake::text_block(2, "I pay."),
        fake::tool_block(3, "a", "pay", "{}"),
    ];
    let (server, model) = start().await;
    server.push(fake::answer(&blocks, "tool_use"));
    let (heard, answer) = hear(&model, &request()).await;
    let answer = answer.unwrap();
    assert_eq!(heard, "I pay.", "thoughts are not streamed");
    let kept: Vec<_> = answer.reasoning.iter().map(|piece| (piece.text.as_str(), piece.opaque.clone())).collect();
    let opaque = |block: Value| Some(json!({ "dialect": "anthropic", "block": block }));
    assert_eq!(kept, [("Let me see.", opaque(thought)), ("", opaque(hidden))]);
}

#[tokio::test]
async fn what_came_from_the_cache_or_went_into_it_was_read_too() {
    let usage = json!({ "input_tokens": 10, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 1000, "output_tokens": 1 });
    let parts = [vec![fake::message_start(&usage)], fake::text_block(0, "Hi"), end("end_turn")];
    let answer = answer_to(stream(&parts)).await.unwrap();
    let expected = Usage { cached_input_tokens: 100, cache_write_tokens: 1000, ..Usage::tokens(1110, 5) };
    assert_eq!(answer.usage, expected);
    let totals = json!({ "input_tokens": 20, "cache_read_input_tokens": null, "output_tokens": 7 });
    let parts = [vec![fake::message_start(&usage)], fake::text_block(0, "Hi"), fake::message_end("end_turn", &totals)];
    let answer = answer_to(stream(&parts)).await.unwrap();
    assert_eq!((answer.usage.input_tokens, answer.usage.output_tokens), (1120, 7), "later counts are totals");
}

#[tokio::test]
async fn usage_that_is_missing_or_absurd_is_estimated_upward() {
    let hello = "Hello, this is an answer of some length.";
    for usage in [
        json!(null),
        json!({}),
        json!({ "input_tokens": -5, "output_tokens": -5 }),
        json!({ "input_tokens": 1_000_000_000_000_u64, "output_tokens": 1_000_000_000_000_u64 }),
        json!({ "input_tokens": 0, "output_tokens": 0 }),
        json!({ "input_tokens": "12", "output_tokens": 2.5 }),
        json!("none"),
    ] {
        let parts =
            [vec![fake::message_start(&usage)], fake::text_block(0, hello), fake::message_end("end_turn", &usage)];
        let answer = answer_to(stream(&parts)).await.unwrap();
        assert!(answer.usage.estimated, "{usage}");
        assert!(answer.usage.output_tokens >= (hello.len() as u64).div_ceil(3), "{usage}: {:?}", answer.usage);
        assert!((15..1_000).contains(&answer.usage.input_tokens), "{usage}: {:?}", answer.usage);
    }
}

#[tokio::test]
async fn an_error_in_the_middle_of_a_stream_keeps_its_kind() {
    let broken = |kind: &str, message: &str| {
        stream(&[begin(), fake::text_block(0, "Hi"), vec![fake::error_event(kind, message)]])
    };
    let down = answer_to(broken("overloaded_error", "Overloaded")).await;
    assert!(matches!(down, Err(LlmError::Unavailable { .. })), "{down:?}");
    let failed = answer_to(broken("api_error", "Internal server error")).await;
    assert!(matches!(failed, Err(LlmError::Unavailable { .. })), "{failed:?}");
    let limited = answer_to(broken("rate_limit_error", "slow down")).await;
    assert!(matches!(limited, Err(LlmError::RateLimited { .. })), "{limited:?}");
    let refused = answer_to(broken("permission_error", "no")).await;
    assert!(matches!(refused, Err(LlmError::Refused { .. })), "{refused:?}");
    let long = answer_to(broken("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum")).await;
    assert!(matches!(long, Err(LlmError::ContextTooLong { .. })), "{long:?}");
}

#[tokio::test]
async fn endless_and_huge_answers_are_given_up() {
    let (server, _) = start().await;
    let mut small = config(server.base_url());
    small.limits.answer_bytes = 20_000;
    small.limits.line_bytes = 5_000;
    let model = adapter(small);
    server.push(fake::text(&"word ".repeat(1_000)));
    let (heard, answer) = hear(&model, &request()).await;
    assert!(heard.len() < 20_000);
    assert!(matches!(answer, Err(LlmError::Invalid { .. })), "{answer:?}");

    assert!(invalid(fake::raw_events(format!("data: {}", "x".repeat(10_000_000)))).await.contains("longer than"));
}

#[tokio::test]
async fn a_stream_of_pings_is_as_good_as_a_silent_one() {
    let (server, model) = start().await;
    let mut hasty = request();
    hasty.idle_timeout = std::time::Duration::from_millis(150);
    let pings = vec![fake::ping(); 5_000];
    let begun = stream(&[begin(), fake::text_block(0, "Hi"), pings]);
    server.push(begun.in_pieces(400, std::time::Duration::from_millis(20)));
    let (_, answer) = hear(&model, &hasty).await;
    assert!(matches!(answer, Err(LlmError::Timeout { millis: 150, .. })), "{answer:?}");
}
