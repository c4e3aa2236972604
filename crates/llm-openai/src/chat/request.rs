//! A request in the protocol's words.

use std::borrow::Cow;

use domain::agent::Effort;
use domain::{Image, Message, ToolCall, ToolSpec};
use llm::ChatRequest;
use llm_http::{ImageError, WireNames, image_source};
use serde::Serialize;
use serde_json::Value;

use crate::features::{Feature, LeftOut};
use crate::request::BodyError;

/// How a server's complaint names what it does not know.
pub(super) const FEATURES: [(Feature, &str); 5] = [
    (Feature::UsageInStream, "stream_options"),
    (Feature::OutputSchema, "response_format"),
    (Feature::OldLimitName, "max_completion_tokens"),
    (Feature::Effort, "reasoning_effort"),
    (Feature::Temperature, "'temperature'"),
];

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<WireMessage<'a>>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<Effort>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "snake_case")]
enum WireMessage<'a> {
    System {
        content: &'a str,
    },
    User {
        content: Content<'a>,
    },
    Assistant {
        content: &'a str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<WireCall<'a>>,
    },
    Tool {
        tool_call_id: &'a str,
        content: &'a str,
    },
}

/// Many servers know words alone, so parts are used only where there are pictures.
#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Words(&'a str),
    Parts(Vec<Part<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part<'a> {
    Text { text: &'a str },
    ImageUrl { image_url: ImageUrl<'a> },
}

#[derive(Serialize)]
struct ImageUrl<'a> {
    url: &'a str,
}

#[derive(Serialize)]
struct WireCall<'a> {
    id: &'a str,
    r#type: &'static str,
    function: WireFunction<'a>,
}

#[derive(Serialize)]
struct WireFunction<'a> {
    name: Cow<'a, str>,
    /// JSON within a string: the protocol wants it so.
    arguments: String,
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

#[derive(Serialize)]
struct ResponseFormat<'a> {
    r#type: &'static str,
    json_schema: JsonSchema<'a>,
}

#[derive(Serialize)]
struct JsonSchema<'a> {
    name: &'static str,
    schema: &'a Value,
    /// The strict mode takes only schemas of a narrow form; the answer is checked here anyway.
    strict: bool,
}

/// The body of a request.
pub(super) fn body(request: &ChatRequest, names: &WireNames, left_out: &LeftOut) -> Result<Vec<u8>, BodyError> {
    let limit = request.max_output_tokens;
    let messages: Result<Vec<_>, ImageError> = request.messages.iter().map(|said| message(said, names)).collect();
    Ok(serde_json::to_vec(&Body {
        model: &request.model,
        messages: messages?,
        stream: true,
        stream_options: left_out.keeps(Feature::UsageInStream).then_some(StreamOptions { include_usage: true }),
        tools: request.tools.iter().map(|spec| tool(spec, names)).collect(),
        response_format: request.output_schema.as_ref().filter(|_| left_out.keeps(Feature::OutputSchema)).map(
            |schema| ResponseFormat {
                r#type: "json_schema",
                json_schema: JsonSchema { name: "answer", schema, strict: false },
            },
        ),
        temperature: request.temperature.filter(|_| left_out.keeps(Feature::Temperature)),
        max_tokens: limit.filter(|_| left_out.keeps(Feature::OldLimitName)),
        max_completion_tokens: limit.filter(|_| !left_out.keeps(Feature::OldLimitName)),
        reasoning_effort: request.effort.filter(|_| left_out.keeps(Feature::Effort)),
    })?)
}

/// What a model thought before has no place in this protocol, so it is not sent back.
fn message<'a>(message: &'a Message, names: &'a WireNames) -> Result<WireMessage<'a>, ImageError> {
    Ok(match message {
        Message::System { text } => WireMessage::System { content: text },
        Message::User { text, images } if images.is_empty() => WireMessage::User { content: Content::Words(text) },
        Message::User { text, images } => WireMessage::User { content: Content::Parts(parts(text, images)?) },
        Message::Assistant { text, tool_calls, .. } => WireMessage::Assistant {
            content: text,
            tool_calls: tool_calls.iter().map(|asked| call(asked, names)).collect(),
        },
        Message::Tool { call_id, text } => WireMessage::Tool { tool_call_id: call_id, content: text },
    })
}

fn parts<'a>(text: &'a str, images: &'a [Image]) -> Result<Vec<Part<'a>>, ImageError> {
    let words = Some(Part::Text { text }).filter(|_| !text.is_empty());
    let pictures = images.iter().map(|image| {
        image_source(image)?;
        Ok(Part::ImageUrl { image_url: ImageUrl { url: image.url.trim() } })
    });
    words.map(Ok).into_iter().chain(pictures).collect()
}

fn call<'a>(call: &'a ToolCall, names: &'a WireNames) -> WireCall<'a> {
    let function = WireFunction { name: names.wire(&call.name), arguments: call.arguments.to_string() };
    WireCall { id: &call.id, r#type: "function", function }
}

fn tool<'a>(spec: &'a ToolSpec, names: &'a WireNames) -> WireTool<'a> {
    let ToolSpec { name, description, parameters, .. } = spec;
    WireTool { r#type: "function", function: WireToolFunction { name: names.wire(name), description, parameters } }
}
