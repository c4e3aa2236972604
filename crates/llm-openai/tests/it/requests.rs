//! What is sent.

use domain::agent::Effort;
use domain::{Image, Message, Reasoning, ToolCall, ToolSpec};
use llm_openai::ApiKey;
use serde_json::json;
use testkit::fake_openai::Reply;

use crate::support::{KEY, adapter, config, hear, request, start};

#[tokio::test]
async fn a_request_says_everything_in_the_protocols_words() {
    let (server, _) = start().await;
    let mut with_header = config(server.base_url());
    with_header.headers.push(("X-Team".to_owned(), ApiKey::new("blue")));
    let model = adapter(with_header);
    let mut rich = request();
    rich.messages = vec![
        Message::System { text: "Be kind.".to_owned() },
        Message::user("Pay \"Zoë\"".to_owned()),
        Message::Assistant {
            text: String::new(),
            tool_calls: vec![ToolCall { id: "a".to_owned(), name: "pay".to_owned(), arguments: json!({ "x": "\"" }) }],
            reasoning: Vec::new(),
        },
        Message::Tool { call_id: "a".to_owned(), text: "paid".to_owned() },
    ];
    rich.tools = vec![ToolSpec::new("pay", "Pays.", json!({ "type": "object" }), std::time::Duration::from_secs(1))];
    rich.output_schema = Some(json!({ "type": "object", "required": ["a"] }));
    rich.temperature = Some(0.5);
    rich.max_output_tokens = Some(100);
    hear(&model, &rich).await.1.unwrap();

    let seen = &server.requests()[0];
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/v1/chat/completions"));
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(seen.header("x-team"), Some("blue"));
    assert_eq!(
        seen.body,
        json!({
            "model": "fake-large",
            "messages": [
                { "role": "system", "content": "Be kind." },
                { "role": "user", "content": "Pay \"Zoë\"" },
                { "role": "assistant", "content": "", "tool_calls": [
                    { "id": "a", "type": "function", "function": { "name": "pay", "arguments": "{\"x\":\"\\\"\"}" } },
                ] },
                { "role": "tool", "tool_call_id": "a", "content": "paid" },
            ],
            "stream": true,
            "stream_options": { "include_usage": true },
            "tools": [{ "type": "function", "function":
                { "name": "pay", "description": "Pays.", "parameters": { "type": "object" } } }],
            "response_format": { "type": "json_schema", "json_schema":
                { "name": "answer", "schema": { "type": "object", "required": ["a"] }, "strict": false } },
            "temperature": 0.5,
            "max_tokens": 100,
        })
    );
}

#[tokio::test]
async fn a_request_without_wishes_names_none() {
    let (server, model) = start().await;
    hear(&model, &request()).await.1.unwrap();
    let body = &server.requests()[0].body;
    let keys: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["messages", "model", "stream", "stream_options"]);
}

#[tokio::test]
async fn the_models_of_a_server_are_listed() {
    let (server, model) = start().await;
    assert_eq!(model.list_models().await.unwrap(), ["fake-large", "fake-small"]);
    assert_eq!(server.requests()[0].path, "/v1/models");
    let elsewhere = adapter(config(format!("{}/none", server.base_url())));
    assert!(elsewhere.list_models().await.is_err());
}

#[tokio::test]
async fn pictures_effort_and_names_of_tools_are_said_as_the_protocol_has_them() {
    let (server, model) = start().await;
    let mut rich = request();
    let image = |url: &str| Image { url: url.to_owned(), media_type: None };
    let images = vec![image("https://a.example/b.png"), image("data:image/png;base64,AAEC")];
    let called = ToolCall { id: "a".to_owned(), name: "files.read".to_owned(), arguments: json!({}) };
    let sealed = Reasoning { text: "Hm.".to_owned(), opaque: Some(json!({ "dialect": "nobody" })) };
    rich.messages = vec![
        Message::User { text: "What is it?".to_owned(), images },
        Message::Assistant { text: "I look.".to_owned(), tool_calls: vec![called], reasoning: vec![sealed] },
        Message::Tool { call_id: "a".to_owned(), text: "a cat".to_owned() },
    ];
    rich.tools = vec![ToolSpec::new("files.read", "", json!({}), std::time::Duration::from_secs(1))];
    rich.effort = Some(Effort::Minimal);
    hear(&model, &rich).await.1.unwrap();
    let body = &server.requests()[0].body;
    assert_eq!(body["reasoning_effort"], "minimal");
    assert_eq!(body["tools"][0]["function"]["name"], "files__read");
    assert_eq!(
        body["messages"],
        json!([
            { "role": "user", "content": [
                { "type": "text", "text": "What is it?" },
                { "type": "image_url", "image_url": { "url": "https://a.example/b.png" } },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,AAEC" } },
            ] },
            { "role": "assistant", "content": "I look.", "tool_calls": [
                { "id": "a", "type": "function", "function": { "name": "files__read", "arguments": "{}" } },
            ] },
            { "role": "tool", "tool_call_id": "a", "content": "a cat" },
        ])
    );
}

#[tokio::test]
async fn effort_and_randomness_that_a_model_does_not_know_are_left_out() {
    let (server, model) = start().await;
    server.push(Reply::error(400, "unsupported", "Unrecognized request argument supplied: reasoning_effort"));
    server.push(Reply::error(400, "unsupported", "'temperature' does not support 0.5 with this model."));
    let mut rich = request();
    rich.effort = Some(Effort::High);
    rich.temperature = Some(0.5);
    hear(&model, &rich).await.1.unwrap();
    let bodies: Vec<_> = server.requests().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies.len(), 3);
    assert!(bodies[1].get("reasoning_effort").is_none() && bodies[1]["temperature"] == 0.5);
    assert!(bodies[2].get("temperature").is_none());
}
