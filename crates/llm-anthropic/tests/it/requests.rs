//! What the server receives. The fake refuses what the protocol does not allow, so each accepted request is a proper one.

use std::time::Duration;

use domain::agent::Effort;
use domain::{Image, Message, Reasoning, ToolCall, ToolSpec};
use llm::{ChatModel, ChatRequest, LlmError};
use serde_json::{Value, json};
use testkit::fake_anthropic::{self as fake, KEY};

use crate::support::{adapter, config, hear, request, start};

fn call(id: &str, name: &str) -> ToolCall {
    ToolCall { id: id.to_owned(), name: name.to_owned(), arguments: json!({ "x": "\"" }) }
}

fn calls(text: &str, calls: Vec<ToolCall>, reasoning: Vec<Reasoning>) -> Message {
    Message::Assistant { text: text.to_owned(), tool_calls: calls, reasoning }
}

fn result(call_id: &str, text: &str) -> Message {
    Message::Tool { call_id: call_id.to_owned(), text: text.to_owned() }
}

fn tool(name: &str) -> ToolSpec {
    ToolSpec::new(name, "Pays.", json!({ "type": "object" }), Duration::from_secs(1))
}

fn thought(block: &Value) -> Reasoning {
    Reasoning { text: "x".to_owned(), opaque: Some(json!({ "dialect": "anthropic", "block": block })) }
}

/// What the server received for a request that it accepted.
async fn received(request: &ChatRequest) -> Value {
    let (server, model) = start().await;
    hear(&model, request).await.1.expect("an answer");
    assert_eq!(server.requests().len(), 1, "accepted at once");
    server.requests().remove(0).body
}

#[tokio::test]
async fn a_request_is_said_in_the_protocols_words() {
    let (server, _) = start().await;
    let mut own = config(server.base_url());
    own.headers.push(("x-team".to_owned(), llm_anthropic::ApiKey::new("blue")));
    let model = adapter(own);
    let mut rich = request();
    rich.messages = vec![
        Message::System { text: "Be kind.".to_owned() },
        Message::User {
            text: "Pay \"Zoë\"".to_owned(),
            images: vec![
                Image { url: "data:image/png;base64,AAEC".to_owned(), media_type: None },
                Image { url: "https://pictures.example/a.png".to_owned(), media_type: None },
            ],
        },
        calls("", vec![call("a", "shop.pay"), call("b", "wait")], Vec::new()),
        result("a", "paid"),
        result("b", ""),
        Message::user("And now?"),
        Message::assistant("Done."),
        Message::assistant("Really."),
        Message::user("Thanks."),
    ];
    rich.tools = vec![tool("shop.pay"), tool("wait")];
    rich.output_schema = Some(json!({ "type": "object", "required": ["a"] }));
    rich.temperature = Some(0.5);
    rich.max_output_tokens = Some(100);
    hear(&model, &rich).await.1.unwrap();

    let seen = &server.requests()[0];
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/v1/messages"));
    assert_eq!(seen.header("x-api-key"), Some(KEY));
    assert_eq!(seen.header("anthropic-version"), Some("2023-06-01"));
    assert_eq!(seen.header("authorization"), None);
    assert_eq!(seen.header("x-team"), Some("blue"));
    let pay = |name: &str| json!({ "name": name, "description": "Pays.", "input_schema": { "type": "object" } });
    assert_eq!(
        seen.body,
        json!({
            "model": "claude-fake-1",
            "max_tokens": 100,
            "stream": true,
            "system": [{ "type": "text", "text": "Be kind." }],
            "messages": [
                { "role": "user", "content": [
                    { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "AAEC" } },
                    { "type": "image", "source": { "type": "url", "url": "https://pictures.example/a.png" } },
                    { "type": "text", "text": "Pay \"Zoë\"" },
                ] },
                { "role": "assistant", "content": [
                    { "type": "tool_use", "id": "a", "name": "shop__pay", "input": { "x": "\"" } },
                    { "type": "tool_use", "id": "b", "name": "wait", "input": { "x": "\"" } },
                ] },
                { "role": "user", "content": [
                    { "type": "tool_result", "tool_use_id": "a", "content": "paid" },
                    { "type": "tool_result", "tool_use_id": "b" },
                    { "type": "text", "text": "And now?" },
                ] },
                { "role": "assistant", "content": [
                    { "type": "text", "text": "Done." },
                    { "type": "text", "text": "Really." },
                ] },
                { "role": "user", "content": [{ "type": "text", "text": "Thanks." }] },
            ],
            "tools": [pay("shop__pay"), pay("wait")],
            "temperature": 0.5,
            "output_config": { "format": { "type": "json_schema", "schema": { "type": "object", "required": ["a"] } } },
        })
    );
}

#[tokio::test]
async fn a_request_without_wishes_names_none() {
    let body = received(&request()).await;
    let keys: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["max_tokens", "messages", "model", "stream"]);
    assert_eq!(body["max_tokens"], 4_096);
}

#[tokio::test]
async fn a_tool_with_a_dot_in_its_name_is_called_by_its_own_name() {
    let (server, model) = start().await;
    let mut with_tool = request();
    with_tool.tools = vec![tool("files.read_file")];
    server.push(fake::tool_calls(&[("toolu_1", "files__read_file", "{}")]));
    let answer = hear(&model, &with_tool).await.1.unwrap();
    assert_eq!(answer.tool_calls[0].name, "files.read_file");
}

#[tokio::test]
async fn calls_of_before_are_explained_where_no_tools_are_offered() {
    let mut later = request();
    later.messages.extend([calls("", vec![call("a", "shop.pay")], Vec::new()), result("a", "paid")]);
    let body = received(&later).await;
    assert_eq!(body["tools"], json!([{ "name": "shop__pay", "input_schema": { "type": "object" } }]));
    assert_eq!(body["tool_choice"], json!({ "type": "none" }));
}

#[tokio::test]
async fn ids_of_other_providers_are_made_fit_and_stay_together() {
    let mut foreign = request();
    foreign.messages.push(calls("", vec![call("functions.pay:0", "pay"), call("ok-1", "pay")], Vec::new()));
    foreign.messages.extend([result("functions.pay:0", "1"), result("ok-1", "2")]);
    let body = received(&foreign).await;
    let made = body["messages"][1]["content"][0]["id"].as_str().unwrap();
    assert!(made.starts_with("call_"), "{made}");
    assert_eq!(body["messages"][2]["content"][0]["tool_use_id"], made);
    assert_eq!(body["messages"][2]["content"][1]["tool_use_id"], "ok-1");
}

#[tokio::test]
async fn what_says_nothing_is_left_out() {
    let mut quiet = request();
    quiet.messages = vec![
        Message::System { text: String::new() },
        Message::user("Hi"),
        calls(" ", Vec::new(), vec![thought(&json!({ "type": "thinking", "thinking": "", "signature": "c2ln" }))]),
        Message::user(""),
        Message::user("Are you there?"),
    ];
    let body = received(&quiet).await;
    assert!(body.get("system").is_none());
    let texts = [json!({ "type": "text", "text": "Hi" }), json!({ "type": "text", "text": "Are you there?" })];
    assert_eq!(body["messages"], json!([{ "role": "user", "content": texts }]));
}

#[tokio::test]
async fn what_was_thought_goes_back_word_for_word_before_the_call() {
    let (server, model) = start().await;
    let mut thinking = request();
    thinking.tools = vec![tool("pay")];
    thinking.effort = Some(Effort::Low);
    let blocks = [
        fake::thinking_block(0, "Let me \"see\".", "c2lnbmF0dXJl+/="),
        fake::redacted_block(1, "aGlkZGVu"),
        fake::text_block(2, "I pay."),
        fake::tool_block(3, "a", "pay", "{}"),
    ];
    server.push(fake::answer(&blocks, "tool_use"));
    let answer = hear(&model, &thinking).await.1.unwrap();
    // The journal is JSON: what comes back out of it is what goes to the provider.
    let journaled = serde_json::to_string(&answer.reasoning).unwrap();
    let mut reasoning: Vec<Reasoning> = serde_json::from_str(&journaled).unwrap();
    let foreign = json!({ "dialect": "openai-responses", "block": { "type": "reasoning", "id": "rs_1" } });
    reasoning.push(Reasoning { text: "of another".to_owned(), opaque: Some(foreign) });
    reasoning.push(Reasoning { text: "aloud".to_owned(), opaque: None });
    thinking.messages.push(calls(&answer.text, answer.tool_calls, reasoning));
    thinking.messages.push(result("a", "paid"));
    hear(&model, &thinking).await.1.unwrap();
    let body = &server.requests()[1].body;
    assert_eq!(
        body["messages"][1]["content"],
        json!([
            { "type": "thinking", "thinking": "Let me \"see\".", "signature": "c2lnbmF0dXJl+/=" },
            { "type": "redacted_thinking", "data": "aGlkZGVu" },
            { "type": "text", "text": "I pay." },
            { "type": "tool_use", "id": "a", "name": "pay", "input": {} },
        ])
    );
    assert_eq!(body["thinking"], json!({ "type": "enabled", "budget_tokens": 1_024 }));
}

#[tokio::test]
async fn effort_becomes_a_budget_that_leaves_room_for_the_answer() {
    for (effort, limit, budget) in [
        (Effort::Minimal, Some(50_000), None),
        (Effort::Low, Some(50_000), Some(1_024)),
        (Effort::Medium, Some(50_000), Some(4_096)),
        (Effort::High, Some(50_000), Some(16_384)),
        (Effort::High, None, Some(3_072)),
        (Effort::High, Some(1_366), Some(1_024)),
        (Effort::High, Some(1_365), None),
        (Effort::High, Some(1), None),
    ] {
        let mut thinking = request();
        thinking.effort = Some(effort);
        thinking.max_output_tokens = limit;
        thinking.temperature = Some(0.3);
        let body = received(&thinking).await;
        assert_eq!(body["thinking"]["budget_tokens"].as_u64(), budget, "{effort:?} of {limit:?}");
        assert_eq!(body.get("temperature").is_none(), budget.is_some(), "{effort:?}: one excludes the other");
    }
}

#[tokio::test]
async fn thinking_does_not_begin_between_a_call_and_its_result() {
    let mut middle = request();
    middle.effort = Some(Effort::High);
    middle.messages.extend([calls("", vec![call("a", "pay")], Vec::new()), result("a", "paid")]);
    assert!(received(&middle).await.get("thinking").is_none());
    middle.messages.extend([Message::assistant("Paid."), Message::user("Again!")]);
    assert!(received(&middle).await.get("thinking").is_some());
}

#[tokio::test]
async fn randomness_ends_where_the_protocols_scale_ends() {
    let mut hot = request();
    hot.temperature = Some(1.7);
    assert_eq!(received(&hot).await["temperature"], 1.0);
}

#[tokio::test]
async fn the_prefix_of_a_long_request_is_marked_for_the_cache() {
    let mark = json!({ "type": "ephemeral" });
    let mut long = request();
    long.tools = vec![tool("a"), tool("b")];
    long.tools[0].description = "x".repeat(5_000);
    let body = received(&long).await;
    assert_eq!((body["tools"][0].get("cache_control"), &body["tools"][1]["cache_control"]), (None, &mark));
    long.messages.insert(0, Message::System { text: "Be kind.".to_owned() });
    let body = received(&long).await;
    assert_eq!((body["tools"][1].get("cache_control"), &body["system"][0]["cache_control"]), (None, &mark));
    long.tools.clear();
    assert!(received(&long).await["system"][0].get("cache_control").is_none(), "a short one is not");
}

#[tokio::test]
async fn a_picture_that_cannot_be_sent_is_refused_before_anything_is() {
    let (server, model) = start().await;
    let mut picture = request();
    let image = Image { url: "artifact:a.png".to_owned(), media_type: None };
    picture.messages = vec![Message::User { text: "See".to_owned(), images: vec![image] }];
    let (_, answer) = hear(&model, &picture).await;
    let Err(LlmError::Refused { reason, .. }) = answer else { panic!("{answer:?}") };
    assert!(reason.contains("https: or data:"), "{reason}");
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn what_a_model_does_not_know_is_said_otherwise_and_remembered() {
    let (server, model) = start().await;
    let refuse = |message: &str| fake::error(400, "invalid_request_error", message);
    let adaptive = "\"thinking.type.enabled\" is not supported for this model. Use \"thinking.type.adaptive\" and \
                    \"output_config.effort\" to control thinking behavior.";
    let mut rich = request();
    rich.effort = Some(Effort::Medium);
    rich.output_schema = Some(json!({ "type": "object" }));
    server.push(refuse(adaptive));
    server.push(refuse("output_config.format.schema: For 'object' type, 'additionalProperties' must be false"));
    hear(&model, &rich).await.1.unwrap();
    rich.effort = None;
    rich.temperature = Some(0.2);
    server.push(refuse("`temperature` is deprecated for this model."));
    hear(&model, &rich).await.1.unwrap();
    rich.effort = Some(Effort::High);
    hear(&model, &rich).await.1.unwrap();
    let bodies: Vec<Value> = server.requests().into_iter().map(|seen| seen.body).collect();
    let told: Vec<_> = bodies
        .iter()
        .map(|body| {
            let effort = body.pointer("/output_config/effort").and_then(Value::as_str).unwrap_or_default();
            let kind = body.pointer("/thinking/type").and_then(Value::as_str).unwrap_or_default();
            let has_format = body.pointer("/output_config/format").is_some();
            (kind, effort, has_format, body.get("temperature").is_some())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("enabled", "", true, false),
            ("adaptive", "medium", true, false),
            ("adaptive", "medium", false, false),
            ("", "", true, true),
            ("", "", true, false),
            ("adaptive", "high", true, false),
        ]
    );

    server.otherwise(move |_| refuse("thinking, temperature, output_config, adaptive"));
    rich.model = "claude-fake-9".to_owned();
    let before = server.requests().len();
    let (_, answer) = hear(&model, &rich).await;
    assert!(matches!(answer, Err(LlmError::Refused { .. })), "{answer:?}");
    assert_eq!(server.requests().len() - before, 5, "each is left out once");
}

#[tokio::test]
async fn all_pages_of_the_models_are_listed() {
    let (server, model) = start().await;
    assert_eq!(model.list().await.unwrap(), ["claude-fake-0", "claude-fake-1", "claude-fake-2"]);
    let paths: Vec<String> = server.requests().into_iter().map(|seen| seen.path).collect();
    assert_eq!(paths, ["/v1/models?limit=1000", "/v1/models?limit=1000&after_id=claude-fake-1"]);
}
