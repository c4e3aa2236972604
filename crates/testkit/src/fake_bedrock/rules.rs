//! What the Converse protocol does not allow, as far as a client can get it wrong.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{error, signature};
use crate::fake_http::{Reply, Seen};

/// Answers what is not properly signed, or no proper request for a message.
pub(super) fn check(seen: &Seen) -> Option<Reply> {
    if let Some(refused) = signature::check(seen) {
        return Some(refused);
    }
    let model = seen.path.strip_prefix("/model/").and_then(|rest| rest.strip_suffix("/converse-stream"));
    match model {
        Some(model) if seen.method == "POST" && !model.is_empty() && !model.contains(['/', ':']) => {
            converse(&seen.body).err().map(|reason| error(400, "ValidationException", &reason))
        }
        _ => Some(error(404, "UnknownOperationException", "no such path")),
    }
}

fn converse(body: &Value) -> Result<(), String> {
    let inference = &body["inferenceConfig"];
    let max_tokens = inference.get("maxTokens").map(|limit| limit.as_u64().unwrap_or(0));
    must(max_tokens != Some(0), "inferenceConfig.maxTokens must be greater than or equal to 1")?;
    if let Some(temperature) = inference.get("temperature") {
        let in_range = temperature.as_f64().is_some_and(|temperature| (0.0..=1.0).contains(&temperature));
        must(in_range, "inferenceConfig.temperature must be less than or equal to 1")?;
    }
    let thinking = body.pointer("/additionalModelRequestFields/thinking");
    let thinks = thinking.is_some_and(|thinking| thinking["type"] == "enabled");
    if let Some(budget) = thinking.and_then(|thinking| thinking["budget_tokens"].as_u64()) {
        must(budget >= 1_024, "thinking.budget_tokens: Input should be greater than or equal to 1024")?;
        must(max_tokens.is_some_and(|limit| budget < limit), "`max_tokens` must be greater than the budget")?;
        must(inference.get("temperature").is_none(), "`temperature` may only be set to 1 when thinking is enabled")?;
    }
    if let Some(format) = body.pointer("/outputConfig/textFormat") {
        let schema = format.pointer("/structure/jsonSchema/schema").and_then(Value::as_str).unwrap_or_default();
        let is_schema = serde_json::from_str::<Value>(schema).is_ok_and(|schema| schema.is_object());
        must(format["type"] == "json_schema" && is_schema, "outputConfig.textFormat is not valid")?;
    }
    for block in list(&body["system"]) {
        must(is_text(block), "The text field in the SystemContentBlock object is blank")?;
    }
    let mut names = BTreeSet::new();
    for tool in list(&body["toolConfig"]["tools"]) {
        let spec = &tool["toolSpec"];
        let name = spec["name"].as_str().unwrap_or_default();
        must(is_word(name) && names.insert(name), "toolSpec.name must satisfy [a-zA-Z0-9_-]+ and be unique")?;
        must(spec["description"] != "", "toolSpec.description must have length greater than or equal to 1")?;
        must(spec["inputSchema"]["json"]["type"] == "object", "inputSchema.json.type must be object")?;
    }
    must(body.get("toolConfig").is_none() || !names.is_empty(), "toolConfig.tools must have at least 1 item")?;
    messages(list(&body["messages"]), !names.is_empty(), thinks)
}

fn messages(messages: &[Value], has_tools: bool, thinks: bool) -> Result<(), String> {
    must(!messages.is_empty(), "A conversation must start with a user message")?;
    let mut open: BTreeSet<&str> = BTreeSet::new();
    for (index, message) in messages.iter().enumerate() {
        let role = if index % 2 == 0 { "user" } else { "assistant" };
        must(message["role"] == role, "roles must alternate between user and assistant")?;
        let blocks = list(&message["content"]);
        must(!blocks.is_empty(), "The content field in the Message object is empty")?;
        let mut asked = BTreeSet::new();
        for block in blocks {
            let kinds: Vec<&str> = block.as_object().into_iter().flatten().map(|(kind, _)| kind.as_str()).collect();
            let [kind] = kinds[..] else { return Err("a content block has exactly one member".to_owned()) };
            let told = &block[kind];
            let id = told["toolUseId"].as_str().unwrap_or_default();
            must(has_tools || !kind.starts_with("tool"), "The toolConfig field must be defined when using toolUse")?;
            match (kind, role) {
                ("text", _) => must(is_text(block), "The text field in the ContentBlock object is blank")?,
                ("image", "user") => must(is_image(told), "the image is not valid")?,
                ("toolResult", "user") => {
                    must(open.remove(id), "toolResult blocks exceed the toolUse blocks of the previous turn")?;
                    must(list(&told["content"]).iter().all(is_text), "toolResult.content is blank")?;
                }
                ("toolUse", "assistant") => {
                    must(is_word(id) && asked.insert(id), "toolUseId must satisfy [a-zA-Z0-9_-]+ and be unique")?;
                    must(is_word(told["name"].as_str().unwrap_or_default()), "toolUse.name is not valid")?;
                    must(told["input"].is_object(), "toolUse.input must be a JSON object")?;
                }
                ("reasoningContent", "assistant") => {
                    must(is_thought(told) && asked.is_empty(), "reasoningContent is not valid here")?;
                }
                _ => return Err("the content block is not allowed here".to_owned()),
            }
        }
        must(open.is_empty(), "Expected toolResult blocks for all toolUse ids of the previous turn")?;
        open = asked;
    }
    let [.., asked, last] = messages else { return Ok(()) };
    let in_the_middle = list(&last["content"]).iter().any(|block| block.get("toolResult").is_some());
    let thought = asked["content"][0].get("reasoningContent").is_some();
    must(!thinks || !in_the_middle || thought, "Expected `thinking`, but found `tool_use`")
}

fn must(holds: bool, reason: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason.to_owned()) }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn is_word(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_text(block: &Value) -> bool {
    block["text"].as_str().is_some_and(|text| !text.trim().is_empty())
}

fn is_image(image: &Value) -> bool {
    let format = image["format"].as_str().unwrap_or_default();
    let bytes = image["source"]["bytes"].as_str().unwrap_or_default();
    ["png", "jpeg", "gif", "webp"].contains(&format) && is_base64(bytes)
}

fn is_thought(thought: &Value) -> bool {
    let signed = thought["reasoningText"]["signature"].as_str().is_some_and(|signature| !signature.is_empty());
    signed || thought["redactedContent"].as_str().is_some_and(is_base64)
}

fn is_base64(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='))
}
