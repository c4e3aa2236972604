//! What the server receives. The fake refuses what the protocol does not allow, so each accepted request is a proper one.

use std::time::Duration;

use domain::agent::Effort;
use domain::{Image, Message, Reasoning, ToolCall, ToolSpec};
use llm::{ChatRequest, LlmError};
use serde_json::{Value, json};
use testkit::fake_bedrock as fake;

use crate::support::{hear, request, start};

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

fn picture(url: &str) -> Message {
    let image = Image { url: url.to_owned(), media_type: None };
    Message::User { text: "See".to_owned(), images: vec![image] }
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
    let (server, model) = start().await;
    let mut rich = request();
    rich.messages = vec![
        Message::System { text: "Be kind.".to_owned() },
        picture("data:image/jpg;base64,AAEC"),
        calls("", vec![call("a", "shop.pay"), call("functions.wait:0", "wait")], Vec::new()),
        result("a", "paid"),
        result("functions.wait:0", ""),
        Message::user("And now?"),
        Message::assistant("Done."),
        Message::user("Thanks."),
    ];
    rich.tools = vec![tool("shop.pay"), tool("wait")];
    rich.output_schema = Some(json!({ "type": "object" }));
    rich.temperature = Some(1.5);
    rich.max_output_tokens = Some(100);
    hear(&model, &rich).await.1.unwrap();

    let seen = &server.requests()[0];
    let path = "/model/eu.anthropic.claude-fake-1-v1%3A0/converse-stream";
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", path));
    assert_eq!(seen.header("accept"), Some("application/vnd.amazon.eventstream"));
    let made = seen.body["messages"][1]["content"][1]["toolUse"]["toolUseId"].as_str().unwrap();
    assert!(made.starts_with("call_"), "{made}");
    let spec = |name: &str| json!({ "toolSpec": { "name": name, "description": "Pays.", "inputSchema": { "json": { "type": "object" } } } });
    assert_eq!(
        seen.body,
        json!({
            "messages": [
                { "role": "user", "content": [
                    { "image": { "format": "jpeg", "source": { "bytes": "AAEC" } } },
                    { "text": "See" },
                ] },
                { "role": "assistant", "content": [
                    { "toolUse": { "toolUseId": "a", "name": "shop__pay", "input": { "x": "\"" } } },
                    { "toolUse": { "toolUseId": made, "name": "wait", "input": { "x": "\"" } } },
                ] },
                { "role": "user", "content": [
                    { "toolResult": { "toolUseId": "a", "content": [{ "text": "paid" }] } },
                    { "toolResult": { "toolUseId": made, "content": [] } },
                    { "text": "And now?" },
                ] },
                { "role": "assistant", "content": [{ "text": "Done." }] },
                { "role": "user", "content": [{ "text": "Thanks." }] },
            ],
            "system": [{ "text": "Be kind." }],
            "inferenceConfig": { "maxTokens": 100, "temperature": 1.0 },
            "toolConfig": { "tools": [spec("shop__pay"), spec("wait")] },
            "outputConfig": { "textFormat": { "type": "json_schema", "structure": { "jsonSchema":
                { "name": "answer", "schema": "{\"type\":\"object\"}" } } } },
        })
    );
}

#[tokio::test]
async fn a_request_without_wishes_names_none() {
    let body = received(&request()).await;
    let keys: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["messages"]);
}

#[tokio::test]
async fn a_model_may_be_named_by_its_arn() {
    let (server, model) = start().await;
    let mut profile = request();
    profile.model = "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.anthropic.fake-v1:0".to_owned();
    hear(&model, &profile).await.1.unwrap();
    let path = "/model/arn%3Aaws%3Abedrock%3Aeu-central-1%3A123456789012%3Ainference-profile%2Feu.anthropic.fake-v1%3A0\
                /converse-stream";
    assert_eq!(server.requests()[0].path, path);
}

#[tokio::test]
async fn a_tool_with_a_dot_in_its_name_is_called_by_its_own_name() {
    let (server, model) = start().await;
    let mut with_tool = request();
    with_tool.tools = vec![tool("files.read_file")];
    server.push(fake::tool_calls(&[("tooluse_1", "files__read_file", "{}")]));
    let answer = hear(&model, &with_tool).await.1.unwrap();
    assert_eq!(answer.tool_calls[0].name, "files.read_file");
}

#[tokio::test]
async fn calls_of_before_are_explained_where_no_tools_are_offered() {
    let mut later = request();
    later.messages.extend([calls("", vec![call("a", "shop.pay")], Vec::new()), result("a", "paid")]);
    let body = received(&later).await;
    let spec = json!({ "toolSpec": { "name": "shop__pay", "inputSchema": { "json": { "type": "object" } } } });
    assert_eq!(body["toolConfig"]["tools"], json!([spec]));
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
    let foreign = json!({ "dialect": "anthropic", "block": { "type": "thinking", "thinking": "x", "signature": "y" } });
    reasoning.push(Reasoning { text: "of another".to_owned(), opaque: Some(foreign) });
    thinking.messages.push(calls(&answer.text, answer.tool_calls, reasoning));
    thinking.messages.push(result("a", "paid"));
    hear(&model, &thinking).await.1.unwrap();
    let body = &server.requests()[1].body;
    let signed = json!({ "text": "Let me \"see\".", "signature": "c2lnbmF0dXJl+/=" });
    assert_eq!(
        body["messages"][1]["content"],
        json!([
            { "reasoningContent": { "reasoningText": signed } },
            { "reasoningContent": { "redactedContent": "aGlkZGVu" } },
            { "text": "I pay." },
            { "toolUse": { "toolUseId": "a", "name": "pay", "input": {} } },
        ])
    );
    let expected = json!({ "thinking": { "type": "enabled", "budget_tokens": 1_024 } });
    assert_eq!(body["additionalModelRequestFields"], expected);
}

#[tokio::test]
async fn effort_is_said_in_the_words_of_the_vendor_that_is_known() {
    for (effort, limit, budget) in [
        (Effort::Minimal, Some(50_000), None),
        (Effort::Medium, Some(50_000), Some(4_096)),
        (Effort::High, Some(50_000), Some(16_384)),
        (Effort::High, None, Some(3_072)),
        (Effort::High, Some(1_365), None),
    ] {
        let mut thinking = request();
        thinking.effort = Some(effort);
        thinking.max_output_tokens = limit;
        thinking.temperature = Some(0.3);
        let body = received(&thinking).await;
        let told = body.pointer("/additionalModelRequestFields/thinking/budget_tokens").and_then(Value::as_u64);
        assert_eq!(told, budget, "{effort:?} of {limit:?}");
        assert_eq!(body.pointer("/inferenceConfig/temperature").is_none(), budget.is_some(), "one excludes the other");
    }
    let mut other = request();
    other.model = "amazon.nova-fake-v1:0".to_owned();
    other.effort = Some(Effort::High);
    assert!(received(&other).await.get("additionalModelRequestFields").is_none());
}

#[tokio::test]
async fn thinking_does_not_begin_between_a_call_and_its_result() {
    let mut middle = request();
    middle.effort = Some(Effort::High);
    middle.messages.extend([calls("", vec![call("a", "pay")], Vec::new()), result("a", "paid")]);
    assert!(received(&middle).await.get("additionalModelRequestFields").is_none());
    middle.messages.extend([Message::assistant("Paid."), Message::user("Again!")]);
    assert!(received(&middle).await.get("additionalModelRequestFields").is_some());
}

#[tokio::test]
async fn a_picture_by_its_address_is_refused_before_anything_is_sent() {
    let (server, model) = start().await;
    for (url, told) in [("https://pictures.example/a.png", "only as data"), ("artifact:a.png", "https: or data:")] {
        let mut seeing = request();
        seeing.messages = vec![picture(url)];
        let (_, answer) = hear(&model, &seeing).await;
        let Err(LlmError::Refused { reason, .. }) = answer else { panic!("{answer:?}") };
        assert!(reason.contains(told), "{reason}");
    }
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn what_a_model_does_not_know_is_said_otherwise_and_remembered() {
    let (server, model) = start().await;
    let refuse = |message: &str| fake::error(400, "ValidationException", message);
    let mut rich = request();
    rich.effort = Some(Effort::Medium);
    rich.output_schema = Some(json!({ "type": "object" }));
    server.push(refuse("\"thinking.type.enabled\" is not supported for this model. Use \"thinking.type.adaptive\""));
    server.push(refuse("This model doesn't support the outputConfig field."));
    hear(&model, &rich).await.1.unwrap();
    rich.effort = None;
    rich.temperature = Some(0.2);
    server.push(refuse("`temperature` is deprecated for this model."));
    hear(&model, &rich).await.1.unwrap();
    rich.effort = Some(Effort::High);
    hear(&model, &rich).await.1.unwrap();
    let told: Vec<_> = server
        .requests()
        .into_iter()
        .map(|seen| {
            let more = &seen.body["additionalModelRequestFields"];
            let kind = more.pointer("/thinking/type").and_then(Value::as_str).unwrap_or_default().to_owned();
            let effort = more.pointer("/output_config/effort").and_then(Value::as_str).unwrap_or_default().to_owned();
            let has_temperature = seen.body.pointer("/inferenceConfig/temperature").is_some();
            (kind, effort, seen.body.get("outputConfig").is_some(), has_temperature)
        })
        .collect();
    let told: Vec<_> =
        told.iter().map(|(kind, effort, format, hot)| (kind.as_str(), effort.as_str(), *format, *hot)).collect();
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
}
