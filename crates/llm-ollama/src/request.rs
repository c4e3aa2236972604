//! A request in the protocol's words.

use std::borrow::Cow;
use std::collections::BTreeMap;

use domain::agent::Effort;
use domain::{Image, Message, Reasoning, ToolCall, ToolSpec};
use llm::ChatRequest;
use llm_http::{ImageError, ImageSource, WireNames, image_source};
use serde::Serialize;
use serde_json::Value;

use crate::DIALECT;

/// How thinking is asked for; the next is tried once a server complained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thinking {
    /// By a degree.
    Degree,
    /// By yes or no; what older servers know.
    Switch,
    /// Not at all: the model does not think.
    None,
}

impl Thinking {
    /// What is left when a server complains like this about a request.
    pub(crate) fn without_what_is_named(self, complaint: &str, request: &ChatRequest) -> Option<Self> {
        request.effort?;
        match self {
            Self::Degree if complaint.contains("think") && complaint.contains("unmarshal") => Some(Self::Switch),
            Self::Degree | Self::Switch if complaint.contains("think") => Some(Self::None),
            _ => None,
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<WireMessage<'a>>,
    stream: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    think: Option<Think>,
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<Options>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Think {
    Switch(bool),
    Degree(&'static str),
}

#[derive(Serialize)]
struct Options {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_predict: Option<u32>,
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "snake_case")]
enum WireMessage<'a> {
    System {
        content: &'a str,
    },
    User {
        content: &'a str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        images: Vec<&'a str>,
    },
    Assistant {
        content: &'a str,
        #[serde(skip_serializing_if = "String::is_empty")]
        thinking: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<WireCall<'a>>,
    },
    Tool {
        content: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        tool_name: Option<Cow<'a, str>>,
    },
}

#[derive(Serialize)]
struct WireCall<'a> {
    function: WireFunction<'a>,
}

#[derive(Serialize)]
struct WireFunction<'a> {
    name: Cow<'a, str>,
    arguments: &'a Value,
}

#[derive(Serialize)]
struct WireTool<'a> {
    r#type: &'static str,
    function: WireToolFunction<'a>,
}

#[derive(Serialize)]
struct WireToolFunction<'a> {
    name: Cow<'a, str>,
    description: &'a str,
    parameters: &'a Value,
}

/// Why a request cannot be put into the protocol's words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("Ollama takes pictures only as data: it fetches none by an address; keep the picture as an artifact")]
    ImageByAddress,
    #[error("the request cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// The body of a request.
pub(crate) fn body(request: &ChatRequest, names: &WireNames, thinking: Thinking) -> Result<Vec<u8>, RequestError> {
    let options = Options { temperature: request.temperature, num_predict: request.max_output_tokens };
    let has_options = options.temperature.is_some() || options.num_predict.is_some();
    Ok(serde_json::to_vec(&Body {
        model: &request.model,
        messages: messages(request, names)?,
        stream: true,
        tools: request.tools.iter().map(|spec| tool(spec, names)).collect(),
        format: request.output_schema.as_ref().filter(|_| request.tools.is_empty()),
        think: request.effort.and_then(|effort| think(effort, thinking)),
        options: has_options.then_some(options),
    })?)
}

fn think(effort: Effort, thinking: Thinking) -> Option<Think> {
    let degree = match (thinking, effort) {
        (Thinking::None, _) => return None,
        (_, Effort::Minimal) => return Some(Think::Switch(false)),
        (Thinking::Switch, _) => return Some(Think::Switch(true)),
        (Thinking::Degree, Effort::Low) => "low",
        (Thinking::Degree, Effort::Medium) => "medium",
        (Thinking::Degree, Effort::High) => "high",
    };
    Some(Think::Degree(degree))
}

fn messages<'a>(request: &'a ChatRequest, names: &'a WireNames) -> Result<Vec<WireMessage<'a>>, RequestError> {
    // A result names its tool, not its call.
    let mut called: BTreeMap<&str, &str> = BTreeMap::new();
    let mut messages = Vec::with_capacity(request.messages.len());
    for message in &request.messages {
        messages.push(match message {
            Message::System { text } => WireMessage::System { content: text },
            Message::User { text, images } => {
                WireMessage::User { content: text, images: images.iter().map(picture).collect::<Result<_, _>>()? }
            }
            Message::Assistant { text, tool_calls, reasoning } => {
                called.extend(tool_calls.iter().map(|call| (call.id.as_str(), call.name.as_str())));
                let tool_calls = tool_calls.iter().map(|each| call(each, names)).collect();
                WireMessage::Assistant { content: text, thinking: own_thoughts(reasoning), tool_calls }
            }
            Message::Tool { call_id, text } => {
                let tool_name = called.get(call_id.as_str()).map(|name| names.wire(name));
                WireMessage::Tool { content: text, tool_name }
            }
        });
    }
    Ok(messages)
}

fn picture(image: &Image) -> Result<&str, RequestError> {
    match image_source(image)? {
        ImageSource::Data { base64, .. } => Ok(base64),
        ImageSource::Url(_) => Err(RequestError::ImageByAddress),
    }
}

/// What this protocol's models thought; they go on from it after a tool's answer.
fn own_thoughts(reasoning: &[Reasoning]) -> String {
    let own = |piece: &&Reasoning| piece.opaque.as_ref().is_some_and(|opaque| opaque["dialect"] == DIALECT);
    reasoning.iter().filter(own).map(|piece| piece.text.as_str()).collect()
}

fn call<'a>(call: &'a ToolCall, names: &'a WireNames) -> WireCall<'a> {
    WireCall { function: WireFunction { name: names.wire(&call.name), arguments: &call.arguments } }
}

fn tool<'a>(spec: &'a ToolSpec, names: &'a WireNames) -> WireTool<'a> {
    let ToolSpec { name, description, parameters, .. } = spec;
    WireTool { r#type: "function", function: WireToolFunction { name: names.wire(name), description, parameters } }
}
