//! Strange answers: refused with a reason, or understood without guessing.

use std::time::Duration;

use domain::{FinishReason, Usage};
use llm::LlmError;
use serde_json::{Value, json};
use testkit::fake_bedrock as fake;
use testkit::fake_http::Reply;

use crate::support::{adapter, answer_to, config, hear, invalid, request, start};

fn begin() -> Vec<Vec<u8>> {
    vec![fake::message_start()]
}

fn end(stop_reason: &str) -> Vec<Vec<u8>> {
    vec![fake::message_stop(stop_reason), fake::metadata(&json!({ "inputTokens": 3, "outputTokens": 4 }))]
}

fn stream(parts: &[Vec<Vec<u8>>]) -> Reply {
    fake::stream(&parts.concat())
}

fn call(input: &str) -> Reply {
    fake::tool_calls(&[("tooluse_1", "pay", input)])
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
    assert_eq!(answer_to(call("")).await.unwrap().tool_calls[0].arguments, json!({}));
}

#[tokio::test]
async fn tools_are_run_only_when_the_answer_ended_to_have_them_run() {
    let blocks = || vec![fake::tool_block(0, "tooluse_1", "pay", "{}")];
    for (stop_reason, told) in [
        ("max_tokens", "none is run"),
        ("model_context_window_exceeded", "none is run"),
        ("content_filtered", "none is run"),
        ("guardrail_intervened", "none is run"),
        ("end_turn", "did not end to have them run"),
        ("stop_sequence", "did not end to have them run"),
        ("malformed_tool_use", "malformed"),
        ("malformed_model_output", "malformed"),
        ("because", "not known"),
    ] {
        let reason = invalid(fake::answer(&blocks(), stop_reason)).await;
        assert!(reason.contains(told), "{stop_reason}: {reason}");
    }
    assert!(invalid(fake::answer(&[fake::text_block(0, "Hi")], "tool_use")).await.contains("asked for none"));
    let mut unclosed = fake::tool_block(0, "tooluse_1", "pay", "{}");
    unclosed.pop();
    assert!(invalid(stream(&[begin(), unclosed, end("tool_use")])).await.contains("out of order"));
    assert!(invalid(stream(&[begin(), blocks().concat()])).await.contains("cut off"));
}

#[tokio::test]
async fn the_reasons_of_an_end_are_told_apart() {
    for (stop_reason, finish) in [
        ("end_turn", FinishReason::Stop),
        ("stop_sequence", FinishReason::Stop),
        ("max_tokens", FinishReason::Length),
        ("model_context_window_exceeded", FinishReason::Length),
        ("content_filtered", FinishReason::ContentFilter),
        ("guardrail_intervened", FinishReason::ContentFilter),
    ] {
        let answer = answer_to(fake::answer(&[fake::text_block(0, "Hi you")], stop_reason)).await.unwrap();
        assert_eq!((answer.text.as_str(), answer.finish), ("Hi you", finish), "{stop_reason}");
    }
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
    let ids: Vec<String> = (0..10_000).map(|index| format!("tooluse_{index}")).collect();
    let many: Vec<(&str, &str, &str)> = ids.iter().map(|id| (id.as_str(), "pay", "{}")).collect();
    assert!(invalid(fake::tool_calls(&many)).await.contains("more than 128 tool calls"));
}

#[tokio::test]
async fn events_out_of_order_are_no_answer() {
    let text = || fake::text_block(0, "Hi you");
    let tool = || fake::tool_block(0, "a", "pay", "{}");
    let piece =
        |delta: Value| vec![fake::event("contentBlockDelta", &json!({ "contentBlockIndex": 0, "delta": delta }))];
    for parts in [
        vec![text(), end("end_turn")],
        vec![begin(), begin(), text(), end("end_turn")],
        vec![begin(), text(), text(), end("end_turn")],
        vec![begin(), tool(), tool(), end("tool_use")],
        vec![begin(), piece(json!({ "toolUse": { "input": "{}" } })), end("tool_use")],
        vec![begin(), vec![tool().remove(0)], piece(json!({ "text": "Hi" })), end("tool_use")],
        vec![begin(), text(), end("end_turn")[..1].to_vec(), end("end_turn")],
        vec![begin(), text(), end("end_turn")[..1].to_vec(), fake::text_block(1, "more"), end("end_turn")],
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
    let event = |kind: &str, payload: &str| {
        fake::raw_frame(&[(":event-type", kind), (":message-type", "event")], payload.as_bytes())
    };
    for garbage in [
        event("contentBlockDelta", "canary not json"),
        event("contentBlockDelta", "{\"canary\": 1}"),
        event("contentBlockDelta", "{\"contentBlockIndex\": -1, \"delta\": {\"text\": \"canary\"}}"),
        event("contentBlockDelta", "{\"contentBlockIndex\": 0, \"delta\": {\"text\": [\"canary\"]}}"),
        event("contentBlockStart", "{\"contentBlockIndex\": 0, \"start\": {\"toolUse\": {\"name\": \"canary\"}}}"),
        event("messageStop", "{\"canary\": 1}"),
        fake::raw_frame(&[(":message-type", "event")], b"{\"canary\": 1}"),
    ] {
        let reason = invalid(stream(&[begin(), vec![garbage], fake::text_block(0, "x"), end("end_turn")])).await;
        assert!(!reason.contains("canary"), "{reason}");
    }
    assert!(invalid(Reply::html()).await.contains("web page"));
    assert!(invalid(Reply::raw(200, "application/json", "{}")).await.contains("document"));
    assert!(invalid(Reply::raw(204, "application/vnd.amazon.eventstream", "")).await.contains("204"));
    assert!(invalid(fake::raw_stream("<!doctype html><p>no frames</p>")).await.contains("longer than"));
    assert!(invalid(fake::raw_stream([0_u8; 64])).await.contains("damaged"));
}

#[tokio::test]
async fn what_the_service_adds_does_no_harm() {
    let unknown = vec![fake::event("somethingNew", &json!({ "x": 1 }))];
    let citation = fake::block(1, None, vec![json!({ "citation": { "title": "x" } })]);
    let image = fake::block(2, Some(&json!({ "image": { "format": "png" } })), vec![json!({ "image": {} })]);
    let parts = [begin(), unknown, fake::text_block(0, "Hi you"), citation, image, end("end_turn")];
    let answer = answer_to(stream(&parts)).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.tool_calls.len()), ("Hi you", 0));
}

#[tokio::test]
async fn what_was_thought_is_kept_as_it_came() {
    let blocks = [
        fake::thinking_block(0, "Let me see.", "c2lnbmF0dXJl"),
        fake::redacted_block(1, "aGlkZGVu"),
        fake::block(2, None, vec![json!({ "reasoningContent": { "text": "Unsigned." } })]),
        fake::text_block(3, "I pay."),
        fake::tool_block(4, "a", "pay", "{}"),
    ];
    let (server, model) = start().await;
    server.push(fake::answer(&blocks, "tool_use"));
    let (heard, answer) = hear(&model, &request()).await;
    assert_eq!(heard, "I pay.", "thoughts are not streamed");
    let kept: Vec<_> = answer.unwrap().reasoning.into_iter().map(|piece| (piece.text, piece.opaque)).collect();
    let opaque = |content: Value| Some(json!({ "dialect": "bedrock", "block": { "reasoningContent": content } }));
    let signed = json!({ "reasoningText": { "text": "Let me see.", "signature": "c2lnbmF0dXJl" } });
    assert_eq!(
        kept,
        [
            ("Let me see.".to_owned(), opaque(signed)),
            (String::new(), opaque(json!({ "redactedContent": "aGlkZGVu" }))),
            ("Unsigned.".to_owned(), None),
        ]
    );
}

#[tokio::test]
async fn what_came_from_the_cache_or_went_into_it_was_read_too() {
    let usage =
        json!({ "inputTokens": 10, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 1000, "outputTokens": 5 });
    let ends = vec![fake::message_stop("end_turn"), fake::metadata(&usage)];
    let answer = answer_to(stream(&[begin(), fake::text_block(0, "Hi"), ends])).await.unwrap();
    let expected = Usage { cached_input_tokens: 100, cache_write_tokens: 1000, ..Usage::tokens(1110, 5) };
    assert_eq!(answer.usage, expected);
}

#[tokio::test]
async fn usage_that_is_missing_or_absurd_is_estimated_upward() {
    let hello = "Hello, this is an answer of some length.";
    for usage in [
        json!(null),
        json!({}),
        json!({ "inputTokens": -5, "outputTokens": -5 }),
        json!({ "inputTokens": 1_000_000_000_000_u64, "outputTokens": 1_000_000_000_000_u64 }),
        json!({ "inputTokens": "12", "outputTokens": 2.5 }),
        json!("none"),
    ] {
        let ends = vec![fake::message_stop("end_turn"), fake::metadata(&usage)];
        let answer = answer_to(stream(&[begin(), fake::text_block(0, hello), ends])).await.unwrap();
        assert!(answer.usage.estimated, "{usage}");
        assert!(answer.usage.output_tokens >= (hello.len() as u64).div_ceil(3), "{usage}: {:?}", answer.usage);
        assert!((15..1_000).contains(&answer.usage.input_tokens), "{usage}: {:?}", answer.usage);
    }
}

#[tokio::test]
async fn an_exception_in_the_middle_of_a_stream_keeps_its_kind() {
    let broken = |frame: Vec<u8>| stream(&[begin(), fake::text_block(0, "Hi"), vec![frame]]);
    let limited = answer_to(broken(fake::exception("throttlingException", "slow down"))).await;
    assert!(matches!(limited, Err(LlmError::RateLimited { .. })), "{limited:?}");
    for kind in ["modelStreamErrorException", "internalServerException", "serviceUnavailableException", "newException"]
    {
        let down = answer_to(broken(fake::exception(kind, "try again"))).await;
        assert!(matches!(down, Err(LlmError::Unavailable { .. })), "{kind}: {down:?}");
    }
    let long =
        answer_to(broken(fake::exception("validationException", "Input is too long for requested model."))).await;
    assert!(matches!(long, Err(LlmError::ContextTooLong { .. })), "{long:?}");
    let wrong = answer_to(broken(fake::exception("validationException", "no such thing"))).await;
    assert!(matches!(wrong, Err(LlmError::Refused { .. })), "{wrong:?}");
    let down = answer_to(broken(fake::error_frame("InternalFailure", "oops"))).await;
    assert!(matches!(down, Err(LlmError::Unavailable { .. })), "{down:?}");
}

#[tokio::test]
async fn endless_and_huge_answers_are_given_up() {
    let (server, _) = start().await;
    let mut small = config(server.base_url());
    small.limits.answer_bytes = 20_000;
    small.limits.line_bytes = 5_000;
    let model = adapter(small).await;
    server.push(fake::text(&"word ".repeat(1_000)));
    let (heard, answer) = hear(&model, &request()).await;
    assert!(heard.len() < 20_000);
    assert!(matches!(answer, Err(LlmError::Invalid { .. })), "{answer:?}");
    let huge = fake::text_block(0, &"x".repeat(10_000_000));
    assert!(invalid(stream(&[begin(), huge])).await.contains("longer than"));
}

#[tokio::test]
async fn an_answer_that_is_whole_does_not_wait_for_its_usage_for_long() {
    let (server, model) = start().await;
    let whole = stream(&[begin(), fake::text_block(0, "Hi"), vec![fake::message_stop("end_turn")]]);
    let end = whole.body().len();
    server.push(whole.silent_at(end));
    let mut hasty = request();
    hasty.idle_timeout = Duration::from_millis(100);
    let answer = hear(&model, &hasty).await.1.unwrap();
    assert_eq!((answer.text.as_str(), answer.usage.estimated), ("Hi", true));
}
