//! The responses protocol: what is sent, and what of an answer is believed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use domain::agent::Effort;
use domain::{FinishReason, Image, Message, Reasoning, ToolCall, ToolSpec, Usage};
use llm::contract::{Scene, Subject};
use llm::{ChatAnswer, ChatModel, LlmError};
use llm_openai::{Responses, http_client};
use serde_json::{Value, json};
use testkit::fake_openai::responses::{
    answer, begin, call, completed, failed, incomplete, message, reasoning, stream, usage,
};
use testkit::fake_openai::{FakeOpenAi, Reply, responses};

use crate::support::{config, request};

async fn start() -> (FakeOpenAi, Responses) {
    let server = FakeOpenAi::start().await;
    let model = Responses::new(config(server.base_url()), http_client().expect("a client")).expect("configured");
    (server, model)
}

async fn answer_to(reply: Reply) -> Result<ChatAnswer, LlmError> {
    let (server, model) = start().await;
    server.otherwise(move |_| reply.clone());
    model.chat(&request(), &|_| {}).await
}

async fn invalid(events: &[Value]) -> String {
    match answer_to(stream(events)).await {
        Err(LlmError::Invalid { reason, .. }) => reason,
        other => panic!("not refused as invalid: {other:?}"),
    }
}

fn counts() -> Value {
    usage(&json!(12), &json!(5))
}

#[tokio::test]
async fn a_request_says_everything_in_the_protocols_words() {
    let (server, model) = start().await;
    let sealed = |text: &str, after: u64| Reasoning {
        text: text.to_owned(),
        opaque: Some(json!({ "dialect": "openai-responses", "after": after, "item": reasoning(text, Some(text)) })),
    };
    let mut rich = request();
    rich.messages = vec![
        Message::System { text: "Be kind.".to_owned() },
        Message::User {
            text: "What is it?".to_owned(),
            images: vec![Image { url: "https://a.example/b.png".to_owned(), media_type: None }],
        },
        Message::Assistant {
            text: "Let me look.".to_owned(),
            tool_calls: vec![ToolCall { id: "a".to_owned(), name: "pictures.look".to_owned(), arguments: json!({}) }],
            reasoning: vec![
                sealed("first", 0),
                Reasoning { text: "another's".to_owned(), opaque: None },
                sealed("second", 1),
            ],
        },
        Message::Tool { call_id: "a".to_owned(), text: "a cat".to_owned() },
    ];
    let parameters = json!({ "type": "object" });
    rich.tools = vec![ToolSpec::new("pictures.look", "Looks.", parameters, Duration::from_secs(1))];
    rich.output_schema = Some(json!({ "type": "object", "required": ["a"] }));
    rich.temperature = Some(0.5);
    rich.max_output_tokens = Some(100);
    rich.effort = Some(Effort::Low);
    model.chat(&rich, &|_| {}).await.unwrap();

    let seen = &server.requests()[0];
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/v1/responses"));
    assert_eq!(
        seen.body,
        json!({
            "model": "fake-large",
            "input": [
                { "type": "message", "role": "system", "content": [{ "type": "input_text", "text": "Be kind." }] },
                { "type": "message", "role": "user", "content": [
                    { "type": "input_text", "text": "What is it?" },
                    { "type": "input_image", "image_url": "https://a.example/b.png", "detail": "auto" },
                ] },
                reasoning("first", Some("first")),
                { "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "Let me look." }] },
                reasoning("second", Some("second")),
                { "type": "function_call", "call_id": "a", "name": "pictures__look", "arguments": "{}" },
                { "type": "function_call_output", "call_id": "a", "output": "a cat" },
            ],
            "stream": true,
            "store": false,
            "include": ["reasoning.encrypted_content"],
            "tools": [{ "type": "function", "name": "pictures__look", "description": "Looks.",
                "parameters": { "type": "object" }, "strict": false }],
            "text": { "format": { "type": "json_schema", "name": "answer",
                "schema": { "type": "object", "required": ["a"] }, "strict": false } },
            "temperature": 0.5,
            "max_output_tokens": 100,
            "reasoning": { "effort": "low" },
        })
    );
}

#[tokio::test]
async fn a_request_without_wishes_names_none() {
    let (server, model) = start().await;
    model.chat(&request(), &|_| {}).await.unwrap();
    let body = &server.requests()[0].body;
    let keys: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["include", "input", "model", "store", "stream"]);
}

#[tokio::test]
async fn reasoning_between_calls_is_kept_with_its_place() {
    let mut second = reasoning("And once more.", Some("seal-2"));
    second["id"] = json!("rs_2");
    let items = [reasoning("Look.", Some("seal-1")), call("a", "pay", "{}"), second.clone(), call("b", "pay", "{}")];
    let given = answer_to(stream(&answer(&items, &counts()))).await.unwrap();
    let kept: Vec<(u64, Value)> = given
        .reasoning
        .iter()
        .filter_map(|piece| piece.opaque.as_ref())
        .map(|opaque| (opaque["after"].as_u64().unwrap(), opaque["item"].clone()))
        .collect();
    assert_eq!(kept, [(0, items[0].clone()), (1, second)]);
    assert_eq!(given.tool_calls.len(), 2);
}

#[tokio::test]
async fn pieces_and_wholes_must_say_the_same() {
    let items = [call("a", "pay", r#"{"x":1}"#)];
    let good = answer(&items, &counts());
    let at = |kind: &str| good.iter().position(|event| event["type"] == kind).unwrap();
    for (kind, key, other) in [
        ("response.function_call_arguments.delta", "/delta", r#"{"x":2}"#),
        ("response.function_call_arguments.done", "/arguments", r#"{"x":2}"#),
        ("response.output_item.done", "/item/arguments", r#"{"x":2}"#),
    ] {
        let mut events = good.clone();
        *events[at(kind)].pointer_mut(key).unwrap() = json!(other);
        assert!(invalid(&events).await.contains("differ"), "{kind}");
    }
    for (key, other) in [("/item/call_id", "b"), ("/item/name", "steal")] {
        let mut events = good.clone();
        *events[at("response.output_item.done")].pointer_mut(key).unwrap() = json!(other);
        invalid(&events).await;
    }
    let mut more = good.clone();
    more[at("response.completed")]["response"]["output"] = json!([items[0], call("b", "pay", "{}")]);
    assert!(invalid(&more).await.contains("differ"));

    let text = answer(&[message("Hi you")], &counts());
    let at = |kind: &str| text.iter().position(|event| event["type"] == kind).unwrap();
    let mut twice = text.clone();
    twice.insert(at("response.output_text.delta"), text[at("response.output_text.delta")].clone());
    assert!(invalid(&twice).await.contains("differ"), "a word came twice");
}

#[tokio::test]
async fn a_call_that_is_not_whole_is_not_run() {
    let items = [call("a", "pay", "{}"), call("b", "pay", "{}")];
    let events = answer(&items, &counts());
    for kind in ["response.function_call_arguments.done", "response.output_item.done"] {
        let mut without = events.clone();
        let at = without.iter().rposition(|event| event["type"] == kind).unwrap();
        without.remove(at);
        let answer = answer_to(stream(&without)).await;
        if kind == "response.output_item.done" {
            assert!(matches!(answer, Err(LlmError::Invalid { .. })), "{answer:?}");
        } else {
            assert_eq!(answer.unwrap().tool_calls.len(), 2, "the item said the whole of it");
        }
    }
    for reason in ["max_output_tokens", "content_filter"] {
        let events = [begin(&items), vec![incomplete(reason, &items, &counts())]].concat();
        assert!(invalid(&events).await.contains("none is run"), "{reason}");
    }
    let own_tool = json!({ "type": "web_search_call", "id": "ws_1", "status": "completed" });
    let added = json!({ "type": "response.output_item.added", "output_index": 0, "item": own_tool });
    assert!(invalid(&[added]).await.contains("not of type function"));
}

#[tokio::test]
async fn wholes_without_pieces_are_understood() {
    let items = [message("Hi you"), call("a", "pay", r#"{"x":1}"#)];
    let mut events = answer(&items, &counts());
    events.retain(|event| !event["type"].to_string().contains(".delta"));
    events.insert(1, json!({ "type": "keepalive" }));
    events.insert(1, json!({ "type": "response.something_new", "delta": 7 }));
    let (server, model) = start().await;
    server.push(stream(&events));
    let heard = Mutex::new(String::new());
    let answer = model.chat(&request(), &|text| heard.lock().unwrap().push_str(text)).await.unwrap();
    assert_eq!((answer.text.as_str(), heard.into_inner().unwrap().as_str()), ("Hi you", "Hi you"));
    assert_eq!(answer.tool_calls[0].arguments, json!({ "x": 1 }));
}

#[tokio::test]
async fn reasoning_tokens_are_counted_and_open_thoughts_keep_no_seal() {
    let mut counts = counts();
    counts["output_tokens_details"]["reasoning_tokens"] = json!(4);
    let items = [reasoning("Hm.", None), message("Hi")];
    let answer = answer_to(stream(&answer(&items, &counts))).await.unwrap();
    assert_eq!((answer.usage.output_tokens, answer.usage.reasoning_tokens), (5, 4));
    assert_eq!(answer.reasoning, [Reasoning { text: "Hm.".to_owned(), opaque: None }]);
}

#[tokio::test]
async fn failures_keep_their_kind() {
    let begun = || begin(&[message("Hi")]);
    let after = |last: Value| stream(&[begun(), vec![last]].concat());
    let limited = answer_to(after(failed("rate_limit_exceeded", "slow"))).await;
    assert!(matches!(limited, Err(LlmError::RateLimited { .. })), "{limited:?}");
    let down = answer_to(after(failed("server_error", "oops"))).await;
    assert!(matches!(down, Err(LlmError::Unavailable { .. })), "{down:?}");
    let long = json!({ "type": "error", "code": "context_length_exceeded", "message": "too long" });
    let long = answer_to(after(long)).await;
    assert!(matches!(long, Err(LlmError::ContextTooLong { .. })), "{long:?}");
    let nested = json!({ "type": "error", "error": { "type": "invalid_request_error", "message": "no" } });
    let nested = answer_to(after(nested)).await;
    assert!(matches!(nested, Err(LlmError::Refused { .. })), "{nested:?}");
    let mut odd = completed(&[], &counts());
    odd["response"]["status"] = json!("cancelled");
    let odd = answer_to(after(odd)).await;
    assert!(matches!(odd, Err(LlmError::Invalid { .. })), "{odd:?}");
}

#[tokio::test]
async fn what_a_model_does_not_know_is_left_out() {
    let (server, model) = start().await;
    for complaint in [
        "Encrypted content is not supported with this model.",
        "Unsupported parameter: 'reasoning.effort' is not supported with this model.",
        "Unsupported parameter: 'temperature' is not supported with this model.",
    ] {
        server.push(Reply::error(400, "unsupported_parameter", complaint));
    }
    let mut rich = request();
    rich.effort = Some(Effort::High);
    rich.temperature = Some(0.1);
    model.chat(&rich, &|_| {}).await.unwrap();
    let bodies: Vec<Value> = server.requests().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies.len(), 4);
    for (body, gone) in bodies[1..].iter().zip(["include", "reasoning", "temperature"]) {
        assert!(body.get(gone).is_none(), "{body}");
    }
    server.push(Reply::error(400, "invalid_value", "'temperature' must be at most 2."));
    let refused = model.chat(&rich, &|_| {}).await;
    assert!(matches!(refused, Err(LlmError::Refused { .. })), "a mistake is told: {refused:?}");
}

#[tokio::test]
async fn silent_thinking_is_no_silence_until_something_was_said() {
    let (server, model) = start().await;
    let events = begin(&[reasoning("", None)]);
    let thinks = stream(&events[..3]);
    let end = thinks.body().len();
    server.push(thinks.silent_at(end));
    let mut hasty = request();
    hasty.idle_timeout = Duration::from_millis(50);
    hasty.timeout = Duration::from_millis(300);
    let answer = model.chat(&hasty, &|_| {}).await;
    assert!(matches!(answer, Err(LlmError::Timeout { millis: 300, .. })), "{answer:?}");
}

#[derive(Default)]
struct ResponsesSubject {
    /// A server lives as long as the suite.
    servers: Mutex<Vec<FakeOpenAi>>,
}

#[async_trait]
impl Subject for ResponsesSubject {
    async fn prepare(&self, scene: &Scene) -> Option<(Arc<dyn ChatModel>, String)> {
        let (server, model) = start().await;
        let reply = reply(scene);
        server.otherwise(move |_| reply.clone());
        self.servers.lock().expect("no panic").push(server);
        Some((Arc::new(model), "fake-large".to_owned()))
    }
}

fn reply(scene: &Scene) -> Reply {
    let spoken = |text: &str, usage: &Value| stream(&answer(&[message(text)], usage));
    match scene {
        Scene::Speaks { text, usage: Usage { input_tokens, output_tokens, .. } } => {
            spoken(text, &usage(&json!(input_tokens), &json!(output_tokens))).in_pieces(11, Duration::ZERO)
        }
        Scene::SpeaksWithoutUsage { text } => spoken(text, &Value::Null),
        Scene::CallsTools { calls } => {
            let calls: Vec<Value> = calls
                .iter()
                .enumerate()
                .map(|(index, (name, arguments))| call(&format!("call_{index}"), name, &arguments.to_string()))
                .collect();
            stream(&answer(&calls, &counts())).in_pieces(5, Duration::ZERO)
        }
        Scene::ReachesItsLimit { text } => {
            let items = [message(text)];
            stream(&[begin(&items), vec![incomplete("max_output_tokens", &items, &counts())]].concat())
        }
        Scene::RateLimits { retry_after } => Reply::rate_limited(&retry_after.as_secs().to_string()),
        Scene::IsDown => Reply::error(503, "overloaded", "try later"),
        Scene::Refuses => Reply::error(401, "invalid_api_key", "Incorrect API key provided"),
        Scene::FindsItTooLong => Reply::error(400, "context_length_exceeded", "exceeds the context window"),
        Scene::Hangs => Reply::silence(),
        Scene::FallsSilent { text } => {
            let said = stream(&begin(&[message(text)]));
            let end = said.body().len();
            said.silent_at(end)
        }
        Scene::IsCutOff { text } => stream(&begin(&[message(text), call("call_1", "lookup", "{\"city\":\"Bern\"}")])),
    }
}

#[tokio::test]
async fn the_adapter_of_responses_keeps_the_contract() {
    llm::contract::check(&ResponsesSubject::default()).await;
}

#[tokio::test]
async fn a_response_whose_end_never_came_is_no_answer_whatever_was_said() {
    let (server, model) = start().await;
    server.push(responses::text("It is sunny."));
    assert_eq!(model.chat(&request(), &|_| {}).await.unwrap().finish, FinishReason::Stop);
    assert!(invalid(&begin(&[message("It is sunny.")])).await.contains("cut off"));
}
