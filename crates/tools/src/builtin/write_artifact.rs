//! `write_artifact`: keeps a file with the task, for people and for later calls.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use domain::{AgentSpec, ToolSpec};
use serde::Deserialize;
use serde_json::{Value, json};

use super::artifact::{check_name, is_media_type, media_type_of, name_schema, told};
use super::{invalid, local_spec, read};
use crate::{CallContext, Tool, ToolError, ToolReply};

pub(super) const NAME: &str = "write_artifact";

/// The largest file that one call writes.
const MAX_BYTES: usize = 1024 * 1024;
const MAX_BASE64: usize = MAX_BYTES.div_ceil(3) * 4;

pub(super) struct WriteArtifact;

#[derive(Deserialize)]
struct Arguments {
    name: String,
    content: Option<String>,
    content_base64: Option<String>,
    media_type: Option<String>,
}

#[async_trait]
impl Tool for WriteArtifact {
    fn spec(&self, _: &AgentSpec) -> Option<ToolSpec> {
        let parameters = json!({
            "type": "object",
            "properties": {
                "name": name_schema("The file's name, such as report.md or data/2030.csv; one of the same name is replaced."),
                "content": {
                    "type": "string",
                    "maxLength": MAX_BYTES,
                    "description": "The content as text, at most 1 MiB."
                },
                "content_base64": {
                    "type": "string",
                    "maxLength": MAX_BASE64,
                    "description": "Instead of `content`: bytes in base64, at most 1 MiB of them."
                },
                "media_type": {
                    "type": "string",
                    "maxLength": 127,
                    "description": "Such as text/markdown; when it is left out, the name decides."
                }
            },
            "required": ["name"],
            "additionalProperties": false
        });
        let description = "Keeps a file with the task, where people can download it and later calls can read it.";
        Some(local_spec(NAME, description, parameters))
    }

    async fn call(&self, context: &CallContext<'_>, arguments: Value) -> Result<ToolReply, ToolError> {
        let arguments: Arguments = read(arguments)?;
        check_name(&arguments.name)?;
        let text = arguments.content.is_some();
        let bytes = match (arguments.content, arguments.content_base64) {
            (Some(text), None) => Bytes::from(text),
            (None, Some(base64)) => STANDARD
                .decode(base64.trim())
                .map(Bytes::from)
                .map_err(|_| invalid("content_base64 must be standard base64 with padding"))?,
            _ => return Err(invalid("give either content or content_base64")),
        };
        if bytes.len() > MAX_BYTES {
            return Err(invalid("a file must have at most 1 MiB"));
        }
        let media_type = match arguments.media_type {
            Some(given) if is_media_type(&given) => given.to_ascii_lowercase(),
            Some(_) => return Err(invalid("media_type must be two words with a slash, such as text/markdown")),
            None => media_type_of(&arguments.name, text).to_owned(),
        };
        let written = context.workspace.write_artifact(&arguments.name, &media_type, bytes).await?;
        Ok(ToolReply::Done(told(&written)))
    }
}
