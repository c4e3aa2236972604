//! What the server receives. The fake refuses what the protocol does not allow, so each accepted request is a proper one.

use std::time::Duration;

use domain::agent::Effort;
use domain::{Image, Message, Reasoning, ToolCall, ToolSpec};
use llm::LlmError;
use serde_json::{Value, json};
use testkit::fake_ollama as fake;

use crate::support::{hear, request, start};

fn call(id: &str, name: &str) -> ToolCall {
    ToolCall { id: id.to_owned(), name: name.to_owned(), arguments: json!({ "x": "\"" }) }
}

fn tool(name: &str) -> ToolSpec {
    ToolSpec::new(name, "Pays.", json!({ "type": "object" }), Duration::from_secs(1))
}

fn picture(url: &str) -> Message {
    let image = Image { url: url.to_owned(), media_type: None };
    Message::User { text: "See".to_owned(), images: vec![image] }
}

#[tokio::test]
async fn a_request_is_said_in_the_protocols_words() {
    let (server, model) = start().await;
    let thought = |dialect: &str| Reasoning {
        text: format!("by {dialect}"),
        opaque: Some(json!({ "dialect": dialect, "block": 1 })),
    };
    let mut rich = request();
    rich.messages = vec![
        Message::System { text: "Be kind.".to_owned() },
        picture("data:image/png;base64,AAEC"),
        Message::Assistant {
            text: "Let me pay.".to_owned(),
            tool_calls: vec![call("call-0", "shop.pay"), call("call-1", "wait")],
            reasoning: vec![thought("ollama"), thought("anthropic")],
        },
        Message::Tool { call_id: "call-1".to_owned(), text: "waited".to_owned() },
        Message::Tool { call_id: "call-0".to_owned(), text: "paid".to_owned() },
    ];
    rich.tools = vec![tool("shop.pay")];
    rich.output_schema = Some(json!({ "type": "object" }));
    rich.temperature = Some(0.5);
    rich.max_output_tokens = Some(100);
    rich.effort = Some(Effort::High);
    hear(&model, &rich).await.1.unwrap();

    let seen = &server.requests()[0];
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/api/chat"));
    assert_eq!(seen.header("authorization"), None);
    assert_eq!(
        seen.body,
        json!({
            "model": "fake-small",
            "messages": [
                { "role": "system", "content": "Be kind." },
                { "role": "user", "content": "See", "images": ["AAEC"] },
                { "role": "assistant", "content": "Let me pay.", "thinking": "by ollama", "tool_calls": [
                    { "function": { "name": "shop__pay", "arguments": { "x": "\"" } } },
                    { "function": { "name": "wait", "arguments": { "x": "\"" } } },
                ] },
                { "role": "tool", "content": "waited", "tool_name": "wait" },
                { "role": "tool", "content": "paid", "tool_name": "shop__pay" },
            ],
            "stream": true,
            "tools": [{ "type": "function", "function":
                { "name": "shop__pay", "description": "Pays.", "parameters": { "type": "object" } } }],
            "think": "high",
            "options": { "temperature": 0.5, "num_predict": 100 },
        })
    );
}

#[tokio::test]
async fn a_request_without_wishes_names_none() {
    let (server, model) = start().await;
    hear(&model, &request()).await.1.unwrap();
    let body = &server.requests()[0].body;
    let keys: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["messages", "model", "stream"]);
}

#[tokio::test]
async fn a_schema_is_enforced_where_no_tools_are_offered() {
    let (server, model) = start().await;
    let mut formed = request();
    formed.output_schema = Some(json!({ "type": "object", "required": ["a"] }));
    hear(&model, &formed).await.1.unwrap();
    formed.tools = vec![tool("pay")];
    hear(&model, &formed).await.1.unwrap();
    let bodies: Vec<Value> = server.requests().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies[0]["format"], json!({ "type": "object", "required": ["a"] }));
    assert!(bodies[1].get("format").is_none());
}

#[tokio::test]
async fn a_tool_with_a_dot_in_its_name_is_called_by_its_own_name() {
    let (server, model) = start().await;
    let mut with_tool = request();
    with_tool.tools = vec![tool("files.read_file")];
    server.push(fake::tool_calls(&[("files__read_file", json!({}))]));
    let answer = hear(&model, &with_tool).await.1.unwrap();
    assert_eq!(answer.tool_calls[0].name, "files.read_file");
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
async fn thinking_is_asked_for_as_far_as_server_and_model_know_it() {
    let (server, model) = start().await;
    let mut thinking = request();
    for effort in [Effort::Minimal, Effort::Low, Effort::Medium] {
        thinking.effort = Some(effort);
        hear(&model, &thinking).await.1.unwrap();
    }
    let old = "json: cannot unmarshal string into Go struct field ChatRequest.think of type bool";
    server.push(fake::error(400, old));
    hear(&model, &thinking).await.1.unwrap();
    hear(&model, &thinking).await.1.unwrap();
    server.push(fake::error(400, "\"fake-small\" does not support thinking"));
    hear(&model, &thinking).await.1.unwrap();
    hear(&model, &thinking).await.1.unwrap();
    let asked: Vec<Value> = server.requests().into_iter().map(|seen| seen.body["think"].clone()).collect();
    let expected = [
        json!(false),
        json!("low"),
        json!("medium"),
        json!("medium"),
        json!(true),
        json!(true),
        json!(true),
        json!(null),
        json!(null),
    ];
    assert_eq!(asked, expected);
}
