//! A request in the protocol's words.

use domain::{Message, ToolCall, ToolSpec};
use llm::ChatRequest;
use serde::Serialize;
use serde_json::Value;

/// What a server may not know; each is left out, or said otherwise, once it complained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Features {
    /// Usage at the end of a stream.
    pub(crate) stream_options: bool,
    /// Answers that match a schema.
    pub(crate) response_format: bool,
    /// The output limit by its old name, which most servers know; new models of OpenAI want the new one.
    pub(crate) max_tokens: bool,
}

impl Features {
    pub(crate) const ALL: Self = Self { stream_options: true, response_format: true, max_tokens: true };

    /// The features without the one that the complaint names, if it is one that the request made use of.
    pub(crate) fn without_what_is_named(self, complaint: &str, request: &ChatRequest) -> Option<Self> {
        if self.stream_options && complaint.contains("stream_options") {
            return Some(Self { stream_options: false, ..self });
        }
        if self.response_format && request.output_schema.is_some() && complaint.contains("response_format") {
            return Some(Self { response_format: false, ..self });
        }
        if self.max_tokens && request.max_output_tokens.is_some() && complaint.contains("max_completion_tokens") {
            return Some(Self { max_tokens: false, ..self });
        }
        None
    }
}

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
        content: &'a str,
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

#[derive(Serialize)]
struct WireCall<'a> {
    id: &'a str,
    r#type: &'static str,
    function: WireFunction<'a>,
}

#[derive(Serialize)]
struct WireFunction<'a> {
    name: &'a str,
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
    name: &'a str,
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
pub(crate) fn body(request: &ChatRequest, features: Features) -> Result<Vec<u8>, serde_json::Error> {
    let limit = request.max_output_tokens;
    serde_json::to_vec(&Body {
        model: &request.model,
        messages: request.messages.iter().map(message).collect(),
        stream: true,
        stream_options: features.stream_options.then_some(StreamOptions { include_usage: true }),
        tools: request.tools.iter().map(tool).collect(),
        response_format: request.output_schema.as_ref().filter(|_| features.response_format).map(|schema| {
            ResponseFormat { r#type: "json_schema", json_schema: JsonSchema { name: "answer", schema, strict: false } }
        }),
        temperature: request.temperature,
        max_tokens: limit.filter(|_| features.max_tokens),
        max_completion_tokens: limit.filter(|_| !features.max_tokens),
    })
}

fn message(message: &Message) -> WireMessage<'_> {
    match message {
        Message::System { text } => WireMessage::System { content: text },
        Message::User { text, .. } => WireMessage::User { content: text },
        Message::Assistant { text, tool_calls, .. } => {
            WireMessage::Assistant { content: text, tool_calls: tool_calls.iter().map(call).collect() }
        }
        Message::Tool { call_id, text } => WireMessage::Tool { tool_call_id: call_id, content: text },
    }
}

fn call(call: &ToolCall) -> WireCall<'_> {
    let function = WireFunction { name: &call.name, arguments: call.arguments.to_string() };
    WireCall { id: &call.id, r#type: "function", function }
}

fn tool(spec: &ToolSpec) -> WireTool<'_> {
    let ToolSpec { name, description, parameters, .. } = spec;
    WireTool { r#type: "function", function: WireToolFunction { name, description, parameters } }
}
