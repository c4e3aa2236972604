//! What the Messages protocol does not allow, as far as a client can get it wrong.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{KEY, MODELS, error};
use crate::fake_http::{Reply, Seen};

/// Answers what is no proper request for a message.
pub(super) fn check(seen: &Seen) -> Option<Reply> {
    if seen.header("x-api-key") != Some(KEY) {
        return Some(error(401, "authentication_error", "invalid x-api-key"));
    }
    if seen.header("anthropic-version") != Some("2023-06-01") {
        return Some(invalid("anthropic-version: header is required"));
    }
    match (seen.method.as_str(), seen.path.split('?').next().unwrap_or_default()) {
        ("POST", "/v1/messages") => message(&seen.body).err().map(|reason| invalid(&reason)),
        ("GET", "/v1/models") => Some(models(&seen.path)),
        _ => Some(error(404, "not_found_error", "no such path")),
    }
}

fn invalid(reason: &str) -> Reply {
    error(400, "invalid_request_error", reason)
}

/// Pages of two.
fn models(path: &str) -> Reply {
    let after = path.split(['?', '&']).find_map(|part| part.strip_prefix("after_id="));
    let begin = after.and_then(|id| MODELS.iter().position(|known| *known == id)).map_or(0, |at| at + 1);
    let page: Vec<&str> = MODELS[begin..].iter().copied().take(2).collect();
    let data: Vec<Value> = page
        .iter()
        .map(|id| json!({ "type": "model", "id": id, "display_name": id, "created_at": "2026-01-01T00:00:00Z" }))
        .collect();
    let has_more = begin + page.len() < MODELS.len();
    let ends = (page.first(), page.last());
    Reply::json(200, &json!({ "data": data, "has_more": has_more, "first_id": ends.0, "last_id": ends.1 }))
}

fn message(body: &Value) -> Result<(), String> {
    must(body["model"].is_string(), "model: Field required")?;
    must(body["stream"] == true, "stream: this server only streams")?;
    let max_tokens = body["max_tokens"].as_u64().filter(|count| *count > 0).ok_or("max_tokens: Field required")?;
    let thinks = body["thinking"]["type"] == "enabled";
    if let Some(temperature) = body.get("temperature") {
        let in_range = temperature.as_f64().is_some_and(|temperature| (0.0..=1.0).contains(&temperature));
        must(in_range, "temperature: range: 0..1")?;
        must(!thinks, "`temperature` may only be set to 1 when thinking is enabled")?;
    }
    if thinks {
        let budget = body["thinking"]["budget_tokens"].as_u64().unwrap_or_default();
        must(budget >= 1_024, "thinking.budget_tokens: Input should be greater than or equal to 1024")?;
        must(budget < max_tokens, "`max_tokens` must be greater than `thinking.budget_tokens`")?;
    }
    if let Some(format) = body.pointer("/output_config/format") {
        must(format["type"] == "json_schema" && format["schema"].is_object(), "output_config.format: invalid")?;
    }
    let mut names = BTreeSet::new();
    for tool in list(&body["tools"]) {
        let name = tool["name"].as_str().unwrap_or_default();
        must(is_word(name, 128), "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'")?;
        must(names.insert(name), "tools: Tool names must be unique.")?;
        must(tool["input_schema"]["type"] == "object", "tools.0.custom.input_schema.type: Field required")?;
    }
    let asks = |message: &Value| list(&message["content"]).iter().any(|block| block["type"] == "tool_use");
    let calls_tools = list(&body["messages"]).iter().any(asks);
    must(!calls_tools || !names.is_empty(), "Requests which include `tool_use` blocks must define tools")?;
    for block in list(&body["system"]) {
        must(is_text(block), "system: text content blocks must be non-empty")?;
    }
    messages(list(&body["messages"]), thinks)
}

fn messages(messages: &[Value], thinks: bool) -> Result<(), String> {
    must(!messages.is_empty(), "messages: at least one message is required")?;
    let mut open: BTreeSet<&str> = BTreeSet::new();
    for (index, message) in messages.iter().enumerate() {
        let role = if index % 2 == 0 { "user" } else { "assistant" };
        must(message["role"] == role, "messages: roles must alternate between \"user\" and \"assistant\"")?;
        let blocks = list(&message["content"]);
        must(!blocks.is_empty(), "messages: all messages must have non-empty content")?;
        let mut asked = BTreeSet::new();
        for block in blocks {
            let id = |key: &str| block[key].as_str().unwrap_or_default();
            match (block["type"].as_str().unwrap_or_default(), role) {
                ("text", _) => must(is_text(block), "messages: text content blocks must be non-empty")?,
                ("image", "user") => must(is_image(&block["source"]), "messages: image source is not valid")?,
                ("tool_result", "user") => {
                    must(open.remove(id("tool_use_id")), "unexpected `tool_use_id` found in `tool_result` blocks")?;
                }
                ("tool_use", "assistant") => {
                    must(is_word(id("id"), 256), "tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")?;
                    must(block["input"].is_object(), "tool_use.input: Input should be a valid dictionary")?;
                    must(asked.insert(id("id")), "`tool_use` ids must be unique")?;
                }
                ("thinking", "assistant") => {
                    must(!id("signature").is_empty(), "thinking.signature: Field required")?;
                    must(asked.is_empty(), "thinking must come before tool_use")?;
                }
                ("redacted_thinking", "assistant") => must(!id("data").is_empty(), "data: Field required")?,
                _ => return Err("messages: content block is not allowed here".to_owned()),
            }
        }
        must(open.is_empty(), "`tool_use` ids were found without `tool_result` blocks immediately after")?;
        open = asked;
    }
    let [.., asked, last] = messages else { return Ok(()) };
    let in_the_middle = list(&last["content"]).iter().any(|block| block["type"] == "tool_result");
    let thought = matches!(asked["content"][0]["type"].as_str(), Some("thinking" | "redacted_thinking"));
    must(!thinks || !in_the_middle || thought, "Expected `thinking` or `redacted_thinking`, but found `tool_use`")
}

fn must(holds: bool, reason: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason.to_owned()) }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn is_word(text: &str, longest: usize) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=longest).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_text(block: &Value) -> bool {
    block["type"] == "text" && block["text"].as_str().is_some_and(|text| !text.trim().is_empty())
}

fn is_image(source: &Value) -> bool {
    const KNOWN: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];
    let text = |key: &str| source[key].as_str().unwrap_or_default();
    match text("type") {
        "base64" => KNOWN.contains(&text("media_type")) && !text("data").is_empty(),
        "url" => text("url").starts_with("https://"),
        _ => false,
    }
}
