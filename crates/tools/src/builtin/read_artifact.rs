//! `read_artifact`: a file of the task, in portions that a model can take.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::{AgentSpec, ToolSpec};
use serde::Deserialize;
use serde_json::{Value, json};

use super::artifact::{check_name, name_schema};
use super::{local_spec, read};
use crate::{CallContext, Tool, ToolError, ToolReply};

pub(super) const NAME: &str = "read_artifact";

/// The most bytes that one call answers with, and how many when nobody says.
const MAX_LENGTH: usize = 262_144;
const USUAL_LENGTH: usize = 65_536;

pub(super) struct ReadArtifact;

#[derive(Deserialize)]
struct Arguments {
    name: String,
    #[serde(default)]
    offset: usize,
    length: Option<usize>,
}

#[async_trait]
impl Tool for ReadArtifact {
    fn spec(&self, _: &AgentSpec) -> Option<ToolSpec> {
        let parameters = json!({
            "type": "object",
            "properties": {
                "name": name_schema("The file's name."),
                "offset": {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": u32::MAX,
                    "description": "The byte to begin with: `next_offset` of the answer before; 0 when it is left out."
                },
                "length": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": MAX_LENGTH,
                    "description": "How many bytes at most; 65536 when it is left out."
                }
            },
            "required": ["name"],
            "additionalProperties": false
        });
        let description = "Reads a file that is kept with the task: text as `content`, anything else as `content_base64`. \
             `total` is its size; `next_offset` is there when more follows.";
        Some(local_spec(NAME, description, parameters))
    }

    async fn call(&self, context: &CallContext<'_>, arguments: Value) -> Result<ToolReply, ToolError> {
        let Arguments { name, offset, length } = read(arguments)?;
        check_name(&name)?;
        let Some((info, bytes)) = context.workspace.read_artifact(&name).await? else {
            return Err(ToolError::new("unknown_artifact", "there is no file of this name; list_artifacts lists them"));
        };
        let length = length.unwrap_or(USUAL_LENGTH).clamp(1, MAX_LENGTH);
        let mut answer = json!({ "name": info.name, "media_type": info.media_type, "total": bytes.len() });
        let end = match std::str::from_utf8(&bytes) {
            Ok(text) if !text.contains('\0') => {
                let (begin, end) = portion(text, offset, length);
                answer["offset"] = json!(begin);
                answer["content"] = json!(text[begin..end]);
                end
            }
            _ => {
                let begin = offset.min(bytes.len());
                let end = begin.saturating_add(length).min(bytes.len());
                answer["offset"] = json!(begin);
                answer["content_base64"] = json!(STANDARD.encode(&bytes[begin..end]));
                end
            }
        };
        if end < bytes.len() {
            answer["next_offset"] = json!(end);
        }
        Ok(ToolReply::Done(answer))
    }
}

/// Whole characters from `offset` on, at most `length` bytes, but at least one character when there is one.
fn portion(text: &str, offset: usize, length: usize) -> (usize, usize) {
    let mut begin = offset.min(text.len());
    while !text.is_char_boundary(begin) {
        begin += 1;
    }
    let mut end = begin.saturating_add(length).min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    if end <= begin {
        end = text[begin..].chars().next().map_or(begin, |first| begin + first.len_utf8());
    }
    (begin, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_of_text_never_cut_a_character_and_always_go_on() {
        let text = "aä€😀z";
        for length in 1..=text.len() + 1 {
            let (mut whole, mut offset) = (String::new(), 0);
            while offset < text.len() {
                let (begin, end) = portion(text, offset, length);
                assert!(begin == offset && end > begin, "{length}");
                whole.push_str(&text[begin..end]);
                offset = end;
            }
            assert_eq!(whole, text);
        }
        assert_eq!(portion(text, 2, 10), (3, 11), "in the middle of a character");
        assert_eq!(portion(text, 100, 10), (text.len(), text.len()));
        assert_eq!(portion("", 0, 10), (0, 0));
    }
}
