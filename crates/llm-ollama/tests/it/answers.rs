//! Strange answers: refused with a reason, or understood without guessing.

use std::time::Duration;

use domain::FinishReason;
use llm::LlmError;
use serde_json::{Value, json};
use testkit::fake_http::Reply;
use testkit::fake_ollama as fake;

use crate::support::{adapter, answer_to, config, hear, invalid, request, start};

fn ended(lines: Vec<Value>, reason: &str) -> Reply {
    fake::stream(&[lines, vec![fake::done(reason, &fake::counts(3, 4))]].concat())
}

/// A call with exactly these arguments, as text.
fn call(arguments: &str) -> Reply {
    let call = format!(
        r#"{{"message":{{"role":"assistant","content":"","tool_calls":[{{"function":{{"name":"pay","arguments":{arguments}}}}}]}},"done":false}}"#
    );
    let end = ended(Vec::new(), "stop");
    fake::raw_lines([call.as_bytes(), b"\n", end.body()].concat())
}

#[tokio::test]
async fn arguments_that_are_not_one_json_object_are_never_mended() {
    for (arguments, told) in [
        (r#"{"amount": 1, "amount": 2}"#, "a key twice"),
        (r#"{"deep": {"amount": 1, "amount": 2}}"#, "a key twice"),
        (r#""{\"amount\": 1}""#, "a string instead of an object"),
        ("[1]", "a list instead of an object"),
        ("null", "null instead of an object"),
        ("{'amount': 1}", "not a chunk"),
        (r#"{"amount": 1} {"amount": 2}"#, "not a chunk"),
    ] {
        let reason = invalid(call(arguments)).await;
        assert!(reason.contains(told), "{arguments}: {reason}");
    }
    assert_eq!(answer_to(call("{}")).await.unwrap().tool_calls[0].arguments, json!({}));
}

#[tokio::test]
async fn calls_are_numbered_in_their_order() {
    let both = json!([
        { "function": { "name": "pay", "arguments": { "x": 1 } } },
        { "id": "call_of_the_server", "function": { "index": 0, "name": "pay", "arguments": { "x": 2 } } },
    ]);
    let lines = [
        vec![fake::line(&json!({ "role": "assistant", "content": "", "tool_calls": both }))],
        fake::called(&[("wait", json!({}))]),
    ];
    let answer = answer_to(ended(lines.concat(), "stop")).await.unwrap();
    assert_eq!(answer.finish, FinishReason::ToolCalls);
    let calls: Vec<_> = answer.tool_calls.iter().map(|call| (call.id.as_str(), call.name.as_str())).collect();
    assert_eq!(calls, [("call-0", "pay"), ("call-1", "pay"), ("call-2", "wait")]);
}

#[tokio::test]
async fn two_calls_that_are_alike_are_two_and_a_line_that_comes_twice_is_a_flaw() {
    let alike = answer_to(fake::tool_calls(&[("pay", json!({})), ("pay", json!({}))])).await.unwrap();
    assert_eq!(alike.tool_calls.len(), 2);
    let call = fake::stream(&fake::called(&[("pay", json!({}))]));
    let end = ended(Vec::new(), "stop");
    assert!(invalid(fake::raw_lines([call.body(), call.body(), end.body()].concat())).await.contains("came twice"));
    assert!(invalid(fake::raw_lines([call.body(), end.body(), end.body()].concat())).await.contains("after its end"));
}

#[tokio::test]
async fn an_answer_ends_once_and_for_a_known_reason() {
    let hello = || fake::said("Hello you.");
    assert!(invalid(ended(fake::called(&[("pay", json!({}))]), "length")).await.contains("none is run"));
    assert!(invalid(ended(hello(), "because")).await.contains("not known"));
    assert!(invalid(ended(Vec::new(), "load")).await.contains("loaded"));
    assert!(invalid(ended(Vec::new(), "stop")).await.contains("empty"));
    assert!(invalid(ended(Vec::new(), "length")).await.contains("max_output_tokens"));
    assert!(invalid(fake::raw_lines("")).await.contains("cut off"));
    assert!(invalid(fake::stream(&hello())).await.contains("cut off"));
    assert!(invalid(ended(vec![fake::called(&[("", json!({}))]).remove(0)], "stop")).await.contains("names no tool"));
    let many: Vec<(&str, Value)> = vec![("pay", json!({})); 10_000];
    assert!(invalid(fake::tool_calls(&many)).await.contains("more than 128 tool calls"));
    let cut = answer_to(ended(hello(), "length")).await.unwrap();
    assert_eq!((cut.text.as_str(), cut.finish), ("Hello you.", FinishReason::Length));
    let no_reason =
        [hello(), vec![json!({ "message": { "role": "assistant", "content": "" }, "done": true })]].concat();
    assert_eq!(answer_to(fake::stream(&no_reason)).await.unwrap().finish, FinishReason::Stop);
    let bare = [hello(), vec![json!({ "done": true, "done_reason": "stop" })]].concat();
    assert_eq!(answer_to(fake::stream(&bare)).await.unwrap().finish, FinishReason::Stop);
}

#[tokio::test]
async fn garbage_is_refused_and_not_repeated_in_the_error() {
    for garbage in [
        "canary not json",
        "{\"canary\": 1}",
        "[\"canary\"]",
        "{\"message\": \"canary\", \"done\": false}",
        "{\"message\": {\"content\": [\"canary\"]}, \"done\": false}",
        "{\"message\": {\"content\": \"x\", \"content\": \"canary\"}, \"done\": false}",
        "{\"message\": {\"tool_calls\": [{\"canary\": 1}]}, \"done\": false}",
        "{\"message\": {\"content\": \"x\"}, \"done\": \"canary\"}",
    ] {
        let rest = fake::text("fine");
        let reason = invalid(fake::raw_lines([garbage.as_bytes(), b"\n", rest.body()].concat())).await;
        assert!(!reason.contains("canary"), "{reason}");
    }
    invalid(fake::raw_lines(b"\xff\xfe\n".to_vec())).await;
    assert!(invalid(Reply::html()).await.contains("web page"));
    assert!(invalid(Reply::raw(200, "application/json", "{}")).await.contains("document"));
    assert!(invalid(Reply::raw(204, "application/x-ndjson", "")).await.contains("204"));
}

#[tokio::test]
async fn what_was_thought_is_kept_apart_from_what_was_said() {
    let (server, model) = start().await;
    server.push(ended([fake::thought("Let me see."), fake::said("I know.")].concat(), "stop"));
    let (heard, answer) = hear(&model, &request()).await;
    let answer = answer.unwrap();
    assert_eq!((heard.as_str(), answer.text.as_str()), ("I know.", "I know."));
    let kept: Vec<_> = answer.reasoning.iter().map(|piece| (piece.text.as_str(), piece.opaque.clone())).collect();
    assert_eq!(kept, [("Let me see.", Some(json!({ "dialect": "ollama" })))]);
}

#[tokio::test]
async fn usage_that_is_missing_or_absurd_is_estimated_upward() {
    let hello = "Hello, this is an answer of some length.";
    for counts in [
        json!(null),
        fake::counts(-5, -5),
        fake::counts(1_000_000_000_000, 1_000_000_000_000),
        fake::counts(0, 0),
        json!({ "prompt_eval_count": "12", "eval_count": 2.5 }),
    ] {
        let answer =
            answer_to(fake::stream(&[fake::said(hello), vec![fake::done("stop", &counts)]].concat())).await.unwrap();
        assert!(answer.usage.estimated, "{counts}");
        assert!(answer.usage.output_tokens >= (hello.len() as u64).div_ceil(3), "{counts}: {:?}", answer.usage);
        assert!((15..1_000).contains(&answer.usage.input_tokens), "{counts}: {:?}", answer.usage);
    }
}

#[tokio::test]
async fn an_error_in_the_middle_of_a_stream_keeps_its_kind() {
    let broken = |message: &str| fake::stream(&[fake::said("Hi"), vec![json!({ "error": message })]].concat());
    let down = answer_to(broken("an error was encountered while running the model: unexpected EOF")).await;
    assert!(matches!(down, Err(LlmError::Unavailable { .. })), "{down:?}");
    let long = answer_to(broken("prompt exceeds the available context size")).await;
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
    assert!(invalid(fake::raw_lines("x".repeat(10_000_000))).await.contains("longer than"));
}

#[tokio::test]
async fn a_stream_that_drips_is_as_good_as_a_silent_one() {
    let (server, model) = start().await;
    let mut hasty = request();
    hasty.idle_timeout = Duration::from_millis(150);
    let begun = fake::stream(&fake::said("Hi"));
    let body = [begun.body(), "\n".repeat(100_000).as_bytes()].concat();
    server.push(fake::raw_lines(body).in_pieces(400, Duration::from_millis(20)));
    let (_, answer) = hear(&model, &hasty).await;
    assert!(matches!(answer, Err(LlmError::Timeout { millis: 150, .. })), "{answer:?}");
}
