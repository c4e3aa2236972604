//! What a server answers, as a model is told it: harmless, of bounded length, files kept with the task.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};
use serde_json::{Map, Value, json};
use tools::{CallContext, ToolError};

use crate::text;

/// How many files one answer may bring.
const MAX_FILES: usize = 16;
/// How many links one answer may bring.
const MAX_LINKS: usize = 100;

/// Reads the result of a call. Structured content goes before the same as text.
pub(crate) async fn of_call(
    result: CallToolResult,
    output: Option<&jsonschema::Validator>,
    context: &CallContext<'_>,
    most: usize,
) -> Result<Value, ToolError> {
    let mut parts = Parts::default();
    for block in result.content {
        parts.add(block, context).await;
    }
    if result.is_error.unwrap_or_default() {
        let said =
            if parts.texts.is_empty() { "the tool failed and does not say why".to_owned() } else { parts.text() };
        return Err(ToolError::new("tool_error", cut(&said, most.min(16 * 1024))));
    }
    let structured = match result.structured_content {
        Some(value) => {
            if output.is_some_and(|schema| !schema.is_valid(&value)) {
                let message = "the tool's result is not what its own schema promises";
                return Err(ToolError::new("invalid_answer", message));
            }
            Some(harmless(value, 0))
        }
        None if output.is_some() && parts.texts.is_empty() && parts.files.is_empty() => {
            return Err(ToolError::new("invalid_answer", "the tool promises a structured result and gave none"));
        }
        None => None,
    };
    Ok(capped(parts.into_value(structured), most))
}

/// Reads a resource.
pub(crate) async fn of_resource(
    contents: Vec<ResourceContents>,
    context: &CallContext<'_>,
    most: usize,
) -> Result<Value, ToolError> {
    let mut parts = Parts::default();
    for content in contents {
        parts.resource(content, context).await;
    }
    Ok(capped(parts.into_value(None), most))
}

#[derive(Default)]
struct Parts {
    texts: Vec<String>,
    files: Vec<Value>,
    links: Vec<Value>,
    left_out: usize,
}

impl Parts {
    async fn add(&mut self, block: ContentBlock, context: &CallContext<'_>) {
        match block {
            ContentBlock::Text(part) => self.texts.push(text::result(&part.text)),
            ContentBlock::Image(part) => self.file(&part.data, Some(&part.mime_type), context).await,
            ContentBlock::Audio(part) => self.file(&part.data, Some(&part.mime_type), context).await,
            ContentBlock::Resource(part) => self.resource(part.resource, context).await,
            // Told, and never followed by us: it may point anywhere.
            ContentBlock::ResourceLink(link) if self.links.len() < MAX_LINKS => self.links.push(json!({
                "uri": text::line(&link.uri, 2_000),
                "name": text::line(&link.name, 200),
            })),
            _ => self.left_out += 1,
        }
    }

    async fn resource(&mut self, resource: ResourceContents, context: &CallContext<'_>) {
        match resource {
            ResourceContents::TextResourceContents { text: words, .. } => self.texts.push(text::result(&words)),
            ResourceContents::BlobResourceContents { blob, mime_type, .. } => {
                self.file(&blob, mime_type.as_deref(), context).await;
            }
            _ => self.left_out += 1,
        }
    }

    /// Keeps bytes as a file of the task. The same call makes the same names, however often it is repeated.
    async fn file(&mut self, base64: &str, media_type: Option<&str>, context: &CallContext<'_>) {
        if self.files.len() >= MAX_FILES {
            self.left_out += 1;
            return;
        }
        let media_type = media_type.filter(|kind| is_media_type(kind)).unwrap_or("application/octet-stream");
        let told = |kept: Result<&str, &str>, size: usize| match kept {
            Ok(name) => json!({ "artifact": name, "media_type": media_type, "size": size }),
            Err(why) => json!({ "left_out": why, "media_type": media_type, "size": size }),
        };
        let Ok(bytes) = STANDARD.decode(base64.trim_ascii()) else {
            self.files.push(told(Err("it is not Base64"), base64.len()));
            return;
        };
        let size = bytes.len();
        let name = format!("{}-{}{}", plain(context.call_id), self.files.len() + 1, ending(media_type));
        let file = match context.workspace.write_artifact(&name, media_type, Bytes::from(bytes)).await {
            Ok(kept) => told(Ok(&kept.name), size),
            Err(error) => told(Err(&error.message), size),
        };
        self.files.push(file);
    }

    fn text(&self) -> String {
        self.texts.join("\n")
    }

    /// A plain answer stays plain; one with files or links says which.
    fn into_value(self, structured: Option<Value>) -> Value {
        let answer = structured.unwrap_or_else(|| Value::String(self.text()));
        if self.files.is_empty() && self.links.is_empty() && self.left_out == 0 {
            return answer;
        }
        let mut whole = Map::new();
        if answer != Value::String(String::new()) {
            whole.insert("result".to_owned(), answer);
        }
        if !self.files.is_empty() {
            whole.insert("files".to_owned(), self.files.into());
        }
        if !self.links.is_empty() {
            whole.insert("links".to_owned(), self.links.into());
        }
        if self.left_out > 0 {
            whole.insert("left_out".to_owned(), format!("{} further parts", self.left_out).into());
        }
        Value::Object(whole)
    }
}

/// Cuts an answer that is too long, and says so.
pub(crate) fn capped(value: Value, most: usize) -> Value {
    match value {
        Value::String(text) => Value::String(cut(&text, most)),
        other => {
            let text = other.to_string();
            if text.len() <= most { other } else { Value::String(cut(&text, most)) }
        }
    }
}

fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let note = format!("\n[cut: the answer has {} bytes, at most {most} are shown]", text.len());
    let mut end = most.saturating_sub(note.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{note}", &text[..end])
}

/// Makes every text in a value harmless.
fn harmless(value: Value, depth: u32) -> Value {
    match value {
        _ if depth > 128 => Value::Null,
        Value::String(words) => Value::String(text::result(&words)),
        Value::Array(items) => items.into_iter().map(|item| harmless(item, depth + 1)).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (text::result(&name), harmless(value, depth + 1))).collect()
        }
        other => other,
    }
}

fn is_media_type(text: &str) -> bool {
    let token = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    text.len() <= 100 && text.split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub))
}

/// The usual ending of a media type's files.
fn ending(media_type: &str) -> &'static str {
    match media_type {
        "image/png" => ".png",
        "image/jpeg" => ".jpg",
        "image/gif" => ".gif",
        "image/webp" => ".webp",
        "audio/mpeg" => ".mp3",
        "audio/wav" | "audio/x-wav" => ".wav",
        "application/pdf" => ".pdf",
        "application/gzip" => ".gz",
        "application/zip" => ".zip",
        _ => ".bin",
    }
}

/// A call's id as part of a file's name.
fn plain(id: &str) -> String {
    let id: String = id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '_').take(64).collect();
    if id.is_empty() { "call".to_owned() } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_answer_is_cut_at_a_whole_character_and_says_so() {
        let cut = capped(json!("é".repeat(2_000)), 1_024);
        let text = cut.as_str().unwrap();
        assert!(text.len() <= 1_024 && text.ends_with("[cut: the answer has 4000 bytes, at most 1024 are shown]"));
        assert!(capped(json!({ "a": "x".repeat(5_000) }), 1_024).as_str().unwrap().contains("[cut:"));
        assert_eq!(capped(json!({ "a": 1 }), 1_024), json!({ "a": 1 }));
    }

    #[test]
    fn a_media_type_that_is_none_is_not_believed() {
        assert!(is_media_type("image/svg+xml") && !is_media_type("text/html; charset=x\r\n") && !is_media_type("png"));
    }
}
