//! What Ollama's protocol does not allow, as far as a client can get it wrong.

use serde_json::{Value, json};

use super::{MODELS, error};
use crate::fake_http::{Reply, Seen};

/// Answers what is no proper request, and the list of models.
pub(super) fn check(seen: &Seen) -> Option<Reply> {
    let checked = match (seen.method.as_str(), seen.path.as_str()) {
        ("GET", "/api/tags") => return Some(tags()),
        ("POST", "/api/chat") => chat(&seen.body),
        ("POST", "/api/embed") => {
            must(seen.body["input"].is_array() || seen.body["input"].is_string(), "invalid input type")
        }
        ("POST", "/api/pull") => must(seen.body["stream"] == true, "this server only streams"),
        _ => return Some(Reply::raw(404, "text/plain", "404 page not found")),
    };
    let checked = checked.and_then(|()| must(seen.body["model"].is_string(), "model is required"));
    checked.err().map(|reason| error(400, &reason))
}

fn tags() -> Reply {
    let models: Vec<Value> = MODELS
        .iter()
        .map(
            |name| json!({ "name": name, "model": name, "size": 1, "digest": "aa11", "details": { "family": "fake" } }),
        )
        .collect();
    Reply::json(200, &json!({ "models": models }))
}

fn chat(body: &Value) -> Result<(), String> {
    must(body["stream"] == true, "this server only streams")?;
    must(body.get("format").is_none_or(Value::is_object), "invalid format")?;
    let think = body.get("think");
    let degree = think.and_then(Value::as_str).is_some_and(|word| ["low", "medium", "high"].contains(&word));
    must(think.is_none_or(|think| think.is_boolean() || degree), "invalid think value")?;
    let options = body.get("options");
    must(options.is_none_or(Value::is_object), "invalid options")?;
    let known = ["temperature", "num_predict"];
    let strange =
        options.and_then(Value::as_object).is_some_and(|map| map.keys().any(|key| !known.contains(&key.as_str())));
    must(!strange, "invalid option provided")?;
    for tool in list(&body["tools"]) {
        let function = &tool["function"];
        let whole = tool["type"] == "function" && function["name"].is_string() && function["parameters"].is_object();
        must(whole, "json: cannot unmarshal tools")?;
    }
    for message in list(&body["messages"]) {
        let role = message["role"].as_str().unwrap_or_default();
        must(["system", "user", "assistant", "tool"].contains(&role), "invalid role")?;
        must(message["content"].is_string(), "json: cannot unmarshal content")?;
        for image in list(&message["images"]) {
            must(image.as_str().is_some_and(is_base64), "illegal base64 data at input byte 0")?;
        }
        for call in list(&message["tool_calls"]) {
            let function = &call["function"];
            let whole = function["name"].is_string() && function["arguments"].is_object();
            must(whole, "json: cannot unmarshal tool_calls")?;
        }
    }
    Ok(())
}

fn must(holds: bool, reason: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason.to_owned()) }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn is_base64(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='))
}
