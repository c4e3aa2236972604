//! Strange answers: refused with a reason, or understood without guessing.

use std::time::Duration;

use domain::FinishReason;
use llm::LlmError;
use serde_json::{Value, json};
use testkit::fake_openai::Reply;

use crate::support::{adapter, answer_to, config, hear, invalid, request, start};

fn calls(arguments: &str) -> Reply {
    Reply::tool_calls(&[("call_1", "pay", arguments)])
}

fn ended(chunks: Vec<Value>, finish: &str) -> Reply {
    Reply::stream(&[chunks, vec![Reply::finish(finish), Reply::usage(3, 4)]].concat())
}

fn call_delta(call: &Value) -> Value {
    Reply::chunk(&json!({ "tool_calls": [call] }))
}

#[tokio::test]
async fn arguments_that_are_not_one_json_object_are_never_mended() {
    for (arguments, told) in [
        (r#"{"amount": 1"#, "cut off"),
        ("", "cut off"),
        (r#"{"amount": 1} done"#, "not one JSON document"),
        (r#"{"amount": 1}{"amount": 1}"#, "not one JSON document"),
        ("{'amount': 1}", "not one JSON document"),
        (r#"{"amount": 1, "amount": 2}"#, "a key twice"),
        (r#""{\"amount\": 1}""#, "a string instead of an object"),
        ("[1]", "a list instead of an object"),
        ("null", "null instead of an object"),
    ] {
        let reason = invalid(calls(arguments)).await;
        assert!(reason.contains(told), "{arguments}: {reason}");
    }
}

#[tokio::test]
async fn tool_calls_of_an_answer_that_was_cut_off_are_not_run() {
    for finish in ["length", "content_filter"] {
        let reply = ended(Reply::call_chunks(&[("call_1", "pay", "{}")]), finish);
        assert!(invalid(reply).await.contains("none is run"), "{finish}");
    }
}

#[tokio::test]
async fn tool_calls_need_ids_of_their_own_and_a_name() {
    for calls in [
        vec![("call_1", "pay", "{}"), ("call_1", "pay", "{}")],
        vec![("", "pay", "{}")],
        vec![(" ", "pay", "{}")],
        vec![("call_1", "", "{}")],
    ] {
        invalid(Reply::tool_calls(&calls)).await;
    }
    let other_id = call_delta(&json!({ "index": 0, "id": "call_2" }));
    let chunks = [Reply::call_chunks(&[("call_1", "pay", "{}")]), vec![other_id]].concat();
    assert!(invalid(ended(chunks, "tool_calls")).await.contains("same id"));
    let other_kind = call_delta(&json!({ "index": 0, "id": "call_1", "type": "code_interpreter" }));
    assert!(invalid(ended(vec![other_kind], "tool_calls")).await.contains("not of type function"));
}

#[tokio::test]
async fn ten_thousand_calls_at_once_are_refused() {
    let ids: Vec<String> = (0..10_000).map(|index| format!("call_{index}")).collect();
    let calls: Vec<(&str, &str, &str)> = ids.iter().map(|id| (id.as_str(), "pay", "{}")).collect();
    assert!(invalid(Reply::tool_calls(&calls)).await.contains("more than 128 tool calls"));
}

#[tokio::test]
async fn calls_without_numbers_and_a_finish_of_stop_are_understood() {
    let chunks = vec![
        call_delta(&json!({ "id": "a", "function": { "name": "pay", "arguments": "{\"x\":" } })),
        call_delta(&json!({ "function": { "arguments": "1}" } })),
        call_delta(&json!({ "id": "b", "function": { "name": "pay", "arguments": "{}" } })),
    ];
    let answer = answer_to(ended(chunks, "stop")).await.unwrap();
    assert_eq!(answer.finish, FinishReason::ToolCalls);
    let calls: Vec<_> = answer.tool_calls.iter().map(|call| (call.id.as_str(), call.arguments.clone())).collect();
    assert_eq!(calls, [("a", json!({ "x": 1 })), ("b", json!({}))]);
}

#[tokio::test]
async fn an_answer_ends_once_and_for_a_known_reason() {
    let hello = || Reply::text_chunks("Hello.");
    let twice = [hello(), vec![Reply::finish("stop")]].concat();
    assert!(invalid(ended(twice, "stop")).await.contains("ended twice"));
    let goes_on = [hello(), vec![Reply::finish("stop")], hello()].concat();
    assert!(invalid(Reply::stream(&goes_on)).await.contains("went on after its end"));
    assert!(invalid(ended(hello(), "tool_calls")).await.contains("asked for none"));
    assert!(invalid(ended(hello(), "because")).await.contains("not known"));
    let second = json!({ "choices": [{ "index": 1, "delta": { "content": "x" } }] });
    assert!(invalid(Reply::stream(&[second])).await.contains("more than one answer"));
}

#[tokio::test]
async fn an_answer_of_nothing_is_an_error() {
    let null = || vec![Reply::chunk(&json!({ "role": "assistant", "content": null }))];
    assert!(invalid(ended(null(), "stop")).await.contains("empty"));
    assert!(invalid(ended(null(), "length")).await.contains("max_output_tokens"));
    assert!(invalid(Reply::stream(&[json!({ "choices": [] })])).await.contains("cut off"));
    assert!(invalid(Reply::events("")).await.contains("cut off"));
    assert!(invalid(Reply::events("data: [DONE]\n\n")).await.contains("cut off"));
    let filtered = answer_to(ended(null(), "content_filter")).await.unwrap();
    assert_eq!(filtered.finish, FinishReason::ContentFilter);
}

#[tokio::test]
async fn garbage_is_refused_and_not_repeated_in_the_error() {
    for garbage in [
        "data: canary not json\n\n",
        "data: {\"choices\": \"canary\"}\n\n",
        "data: {\"canary\": 1}\n\n",
        "data: {\"choices\": null}\n\n",
        "data: {\"choices\": [{\"delta\": {\"content\": [\"canary\"]}}]}\n\n",
        "data: {\"choices\": [{\"delta\": {\"content\": \"canary\"}, \"delta\": {}}]}\n\n",
        "data: {\"choices\": [{\"delta\": {\"tool_calls\": [{\"index\": -1}]}}]}\n\n",
        "data: {\"choices\": [{\"delta\": {\"tool_calls\": [{\"function\": {\"arguments\": {\"canary\": 1}}}]}}]}\n\n",
        "event: error\ndata: canary\n\n",
    ] {
        let text = [garbage.as_bytes(), Reply::text("fine").body()].concat();
        let reason = invalid(Reply::events(text)).await;
        assert!(!reason.contains("canary"), "{reason}");
    }
    invalid(Reply::events(b"data: \xff\xfe\n\n".to_vec())).await;
    assert!(invalid(Reply::html()).await.contains("web page"));
    let page_as_stream = Reply::events("<!doctype html>\n\n<p>data: no</p>\n\n");
    assert!(invalid(page_as_stream).await.contains("cut off"));
    assert!(invalid(Reply::raw(200, "application/json", "{}")).await.contains("document"));
    assert!(invalid(Reply::raw(204, "text/event-stream", "")).await.contains("204"));
}

#[tokio::test]
async fn usage_that_is_missing_or_absurd_is_estimated_upward() {
    let hello = "Hello, this is an answer of some length.";
    for usage in [
        json!(null),
        json!({}),
        json!({ "prompt_tokens": -5, "completion_tokens": -5 }),
        json!({ "prompt_tokens": 1_000_000_000_000_u64, "completion_tokens": 1_000_000_000_000_u64 }),
        json!({ "prompt_tokens": 0, "completion_tokens": 0 }),
        json!({ "prompt_tokens": "12", "completion_tokens": 2.5 }),
        json!("none"),
    ] {
        let told = json!({ "choices": [], "usage": usage });
        let chunks = [Reply::text_chunks(hello), vec![Reply::finish("stop"), told]].concat();
        let answer = answer_to(Reply::stream(&chunks)).await.unwrap();
        assert!(answer.usage.estimated, "{usage}");
        assert!(answer.usage.output_tokens >= (hello.len() as u64).div_ceil(3), "{usage}: {:?}", answer.usage);
        assert!((15..1_000).contains(&answer.usage.input_tokens), "{usage}: {:?}", answer.usage);
    }
    let half = json!({ "choices": [], "usage": { "prompt_tokens": 7, "completion_tokens": -1 } });
    let chunks = [Reply::text_chunks(hello), vec![Reply::finish("stop"), half]].concat();
    let usage = answer_to(Reply::stream(&chunks)).await.unwrap().usage;
    assert_eq!((usage.input_tokens, usage.estimated), (7, true));
}

#[tokio::test]
async fn what_servers_add_does_no_harm() {
    let first = json!({ "choices": [], "prompt_filter_results": [] });
    let thought = Reply::chunk(&json!({ "reasoning_content": "hm ".repeat(300) }));
    let after =
        json!({ "choices": [{ "index": 0, "delta": { "role": "assistant", "content": "" }, "finish_reason": null }] });
    let chunks = [vec![first, thought], Reply::text_chunks("Hi you"), vec![Reply::finish("stop"), after]].concat();
    let body = String::from_utf8(Reply::stream(&chunks).body().to_vec()).unwrap();
    let body = format!("\u{feff}: hello\n\nretry: 3\n{}", body.replace('\n', "\r\n"));
    let answer = answer_to(Reply::events(body)).await.unwrap();
    assert_eq!(answer.text, "Hi you");
    assert!(answer.usage.output_tokens >= 300, "thinking is paid for: {:?}", answer.usage);
}

#[tokio::test]
async fn an_error_in_the_middle_of_a_stream_keeps_its_kind() {
    let error = |error: Value| [Reply::text_chunks("Hi"), vec![json!({ "error": error })]].concat();
    let limited = answer_to(Reply::stream(&error(json!({ "code": 429, "message": "slow" })))).await;
    assert!(matches!(limited, Err(LlmError::RateLimited { .. })), "{limited:?}");
    let down = answer_to(Reply::stream(&error(json!({ "type": "server_error", "message": "oops" })))).await;
    assert!(matches!(down, Err(LlmError::Unavailable { .. })), "{down:?}");
    let long = answer_to(Reply::stream(&error(json!({ "code": "context_length_exceeded" })))).await;
    assert!(matches!(long, Err(LlmError::ContextTooLong { .. })), "{long:?}");
    let document = Reply::error(200, "model_not_found", "no such model");
    let document = answer_to(document).await;
    assert!(matches!(document, Err(LlmError::Refused { .. })), "{document:?}");
}

#[tokio::test]
async fn endless_and_huge_answers_are_given_up() {
    let (server, _) = start().await;
    let mut small = config(server.base_url());
    small.limits.answer_bytes = 20_000;
    small.limits.line_bytes = 5_000;
    let model = adapter(small);
    server.push(Reply::text(&"word ".repeat(1_000)));
    let (heard, answer) = hear(&model, &request()).await;
    assert!(heard.len() < 20_000);
    assert!(matches!(answer, Err(LlmError::Invalid { .. })), "{answer:?}");

    assert!(invalid(Reply::events(format!("data: {}", "x".repeat(10_000_000)))).await.contains("longer than"));
}

#[tokio::test]
async fn a_stream_that_drips_is_as_good_as_a_silent_one() {
    let (server, model) = start().await;
    let mut hasty = request();
    hasty.idle_timeout = Duration::from_millis(150);
    let begun = Reply::stream(&Reply::text_chunks("Hi"));
    let mut body = begun.body()[..begun.body().len() - "data: [DONE]\n\n".len()].to_vec();
    body.extend_from_slice(": still here\n\n".repeat(5_000).as_bytes());
    server.push(Reply::events(body).in_pieces(400, Duration::from_millis(20)));
    let (_, answer) = hear(&model, &hasty).await;
    assert!(matches!(answer, Err(LlmError::Timeout { millis: 150, .. })), "{answer:?}");
}

#[tokio::test]
async fn an_answer_that_is_whole_does_not_wait_for_a_server_that_forgets_to_close() {
    let (server, model) = start().await;
    let whole = Reply::stream(&[Reply::text_chunks("Hi"), vec![Reply::finish("stop")]].concat());
    let end = whole.body().len() - "data: [DONE]\n\n".len();
    server.push(whole.silent_at(end));
    let mut hasty = request();
    hasty.idle_timeout = Duration::from_millis(100);
    let (_, answer) = hear(&model, &hasty).await;
    assert_eq!(answer.unwrap().text, "Hi");
}
