//! A request in the protocol's words.
//!
//! Roles alternate there: what the user says and what tools answered is one message until the model speaks again. No text
//! may be empty. What the model thought goes before what it said, word for word.

use std::borrow::Cow;
use std::collections::BTreeSet;

use domain::agent::Effort;
use domain::{Image, Message, Reasoning, ToolCall};
use llm::ChatRequest;
use llm_http::{ImageError, ImageSource, WireNames, image_source};
use serde::Serialize;
use serde_json::{Value, json};

use crate::DIALECT;

/// The vendor's part of a model's id whose words for thinking are known here.
const ANTHROPIC: &str = "anthropic.";
/// The limit that thinking is measured by when the request names none.
const MAX_TOKENS: u32 = 4_096;
/// The least that Anthropic calls thinking.
const LEAST_BUDGET: u32 = 1_024;
/// The protocol's scale ends here, ours at 2.
const HOTTEST: f64 = 1.0;

/// What a model may not know; each is left out, or said otherwise, once it complained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Features {
    /// Answers that match a schema.
    pub(crate) format: bool,
    /// Randomness, which the newest models choose by themselves.
    pub(crate) temperature: bool,
    /// How thinking is asked for.
    pub(crate) thinking: Thinking,
}

/// How thinking is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thinking {
    /// By a number of tokens.
    Budget,
    /// By a degree; what the models after that know.
    Adaptive,
    /// Not at all: the model does not think, or it is not known how to ask it.
    None,
}

impl Features {
    /// All that a model of this id may know.
    pub(crate) fn of(model: &str) -> Self {
        let thinking = if model.contains(ANTHROPIC) { Thinking::Budget } else { Thinking::None };
        Self { format: true, temperature: true, thinking }
    }

    /// The part of them that is the model's own and holds for other requests.
    pub(crate) fn of_the_model(self) -> Self {
        // A schema may have been the request's own fault.
        Self { format: true, ..self }
    }

    /// The features without the one that the complaint names, if it is one that the request made use of.
    pub(crate) fn without_what_is_named(self, complaint: &str, request: &ChatRequest) -> Option<Self> {
        let asks_to_think = request.effort.is_some_and(|effort| effort != Effort::Minimal);
        if asks_to_think && self.thinking == Thinking::Budget && complaint.contains("adaptive") {
            return Some(Self { thinking: Thinking::Adaptive, ..self });
        }
        let names_format = ["outputConfig", "output_config", "schema"].iter().any(|word| complaint.contains(word));
        if self.format && request.output_schema.is_some() && names_format {
            return Some(Self { format: false, ..self });
        }
        if self.temperature && request.temperature.is_some() && complaint.contains("temperature") {
            return Some(Self { temperature: false, ..self });
        }
        if asks_to_think && self.thinking != Thinking::None && complaint.contains("thinking") {
            return Some(Self { thinking: Thinking::None, ..self });
        }
        None
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inference_config: Option<Inference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<Tools<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    additional_model_request_fields: Option<Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Inference {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: Role,
    content: Vec<Block<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    User,
    Assistant,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Block<'a> {
    Known(KnownBlock<'a>),
    /// A block of the provider's own, given back as it came.
    Theirs(&'a Value),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
enum KnownBlock<'a> {
    Text(&'a str),
    Image { format: &'a str, source: Source<'a> },
    ToolUse { tool_use_id: Cow<'a, str>, name: Cow<'a, str>, input: &'a Value },
    ToolResult { tool_use_id: Cow<'a, str>, content: Vec<Block<'a>> },
}

#[derive(Serialize)]
struct Source<'a> {
    /// In base64.
    bytes: &'a str,
}

#[derive(Serialize)]
struct Tools<'a> {
    tools: Vec<Tool<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tool<'a> {
    tool_spec: Spec<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    name: Cow<'a, str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    input_schema: InputSchema<'a>,
}

#[derive(Serialize)]
struct InputSchema<'a> {
    json: Cow<'a, Value>,
}

/// Why a request cannot be put into the protocol's words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("Bedrock takes pictures only as data: it fetches none by an address; keep the picture as an artifact")]
    ImageByAddress,
    #[error("the request cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// The body of a request.
pub(crate) fn body(request: &ChatRequest, names: &WireNames, features: Features) -> Result<Vec<u8>, RequestError> {
    let thinking = thinking(request, features.thinking);
    // A budget for thinking and a wish for randomness exclude each other.
    let temperature = request.temperature.filter(|_| features.temperature && thinking.is_none());
    let inference =
        Inference { max_tokens: request.max_output_tokens, temperature: temperature.map(|told| told.min(HOTTEST)) };
    let says_how = inference.max_tokens.is_some() || inference.temperature.is_some();
    let system = request.messages.iter().filter_map(|message| match message {
        Message::System { text } => spoken(text),
        _ => None,
    });
    let tools = tools(request, names);
    Ok(serde_json::to_vec(&Body {
        messages: turns(request, names)?,
        system: system.collect(),
        // A budget is measured by a limit, so the limit must be told then.
        inference_config: match thinking {
            Some(_) => Some(Inference { max_tokens: Some(limit(request)), ..inference }),
            None => says_how.then_some(inference),
        },
        tool_config: (!tools.is_empty()).then_some(Tools { tools }),
        output_config: request.output_schema.as_ref().filter(|_| features.format).map(format),
        additional_model_request_fields: thinking,
    })?)
}

fn limit(request: &ChatRequest) -> u32 {
    request.max_output_tokens.unwrap_or(MAX_TOKENS)
}

/// The protocol wants the schema as text.
fn format(schema: &Value) -> Value {
    let definition = json!({ "name": "answer", "schema": schema.to_string() });
    json!({ "textFormat": { "type": "json_schema", "structure": { "jsonSchema": definition } } })
}

fn thinking(request: &ChatRequest, how: Thinking) -> Option<Value> {
    let (degree, level) = match request.effort? {
        Effort::Minimal => return None,
        Effort::Low => ("low", 1_024),
        Effort::Medium => ("medium", 4_096),
        Effort::High => ("high", 16_384),
    };
    if !may_think(&request.messages) {
        return None;
    }
    match how {
        Thinking::None => None,
        Thinking::Adaptive => {
            Some(json!({ "thinking": { "type": "adaptive" }, "output_config": { "effort": degree } }))
        }
        Thinking::Budget => {
            // A quarter of the limit is left for what is said in the end.
            let budget = level.min(limit(request) - limit(request).div_ceil(4));
            let thinking = json!({ "thinking": { "type": "enabled", "budget_tokens": budget } });
            (budget >= LEAST_BUDGET).then_some(thinking)
        }
    }
}

/// Between a tool's answer and what the model makes of it thinking cannot begin: it must have begun before the call.
fn may_think(messages: &[Message]) -> bool {
    let in_the_middle = matches!(messages.last(), Some(Message::Tool { .. }));
    let asked = messages.iter().rev().find_map(|message| match message {
        Message::Assistant { reasoning, .. } => Some(reasoning),
        _ => None,
    });
    !in_the_middle || asked.is_some_and(|reasoning| reasoning.iter().any(|thought| own_block(thought).is_some()))
}

/// The tools that are offered. Where none is, those that were called before are named, for the protocol takes no calls of
/// tools that it does not know; whoever runs tools refuses them.
fn tools<'a>(request: &'a ChatRequest, names: &'a WireNames) -> Vec<Tool<'a>> {
    let tool = |name: &'a str, description, json| {
        let spec = Spec { name: names.wire(name), description, input_schema: InputSchema { json } };
        Tool { tool_spec: spec }
    };
    if !request.tools.is_empty() {
        let offered = request.tools.iter();
        return offered.map(|spec| tool(&spec.name, &spec.description, Cow::Borrowed(&spec.parameters))).collect();
    }
    let called = request.messages.iter().flat_map(|message| match message {
        Message::Assistant { tool_calls, .. } => tool_calls.as_slice(),
        _ => &[],
    });
    let called: BTreeSet<&str> = called.map(|call| call.name.as_str()).collect();
    called.into_iter().map(|name| tool(name, "", Cow::Owned(json!({ "type": "object" })))).collect()
}

fn turns<'a>(request: &'a ChatRequest, names: &'a WireNames) -> Result<Vec<Turn<'a>>, RequestError> {
    let mut turns: Vec<Turn<'a>> = Vec::new();
    for message in &request.messages {
        let (role, blocks) = match message {
            Message::System { .. } => continue,
            Message::User { text, images } => (Role::User, user(text, images)?),
            Message::Assistant { text, tool_calls, reasoning } => {
                (Role::Assistant, assistant(text, tool_calls, reasoning, names))
            }
            Message::Tool { call_id, text } => {
                let content = spoken(text).into_iter().collect();
                let result = KnownBlock::ToolResult { tool_use_id: wire_id(call_id), content };
                (Role::User, vec![Block::Known(result)])
            }
        };
        match turns.last_mut() {
            _ if blocks.is_empty() => {}
            Some(last) if last.role == role => last.content.extend(blocks),
            _ => turns.push(Turn { role, content: blocks }),
        }
    }
    Ok(turns)
}

fn user<'a>(text: &'a str, images: &'a [Image]) -> Result<Vec<Block<'a>>, RequestError> {
    let mut blocks = Vec::with_capacity(images.len() + 1);
    for image in images {
        let ImageSource::Data { media_type, base64 } = image_source(image)? else {
            return Err(RequestError::ImageByAddress);
        };
        let kind = media_type.strip_prefix("image/").unwrap_or(media_type);
        let format = if kind == "jpg" { "jpeg" } else { kind };
        blocks.push(Block::Known(KnownBlock::Image { format, source: Source { bytes: base64 } }));
    }
    blocks.extend(spoken(text));
    Ok(blocks)
}

fn assistant<'a>(
    text: &'a str,
    tool_calls: &'a [ToolCall],
    reasoning: &'a [Reasoning],
    names: &'a WireNames,
) -> Vec<Block<'a>> {
    let mut blocks = Vec::new();
    // Where nothing was said there is no turn that the thoughts belong to.
    if !text.trim().is_empty() || !tool_calls.is_empty() {
        blocks.extend(reasoning.iter().filter_map(own_block).map(Block::Theirs));
    }
    blocks.extend(spoken(text));
    blocks.extend(tool_calls.iter().map(|call| {
        let (tool_use_id, name) = (wire_id(&call.id), names.wire(&call.name));
        Block::Known(KnownBlock::ToolUse { tool_use_id, name, input: &call.arguments })
    }));
    blocks
}

fn spoken(text: &str) -> Option<Block<'_>> {
    (!text.trim().is_empty()).then_some(Block::Known(KnownBlock::Text(text)))
}

/// The block of a thought, when it is one of this protocol's.
fn own_block(thought: &Reasoning) -> Option<&Value> {
    let opaque = thought.opaque.as_ref()?;
    (opaque.get("dialect")? == DIALECT).then(|| opaque.get("block"))?
}

/// The id of a call as the protocol allows it; one that another provider gave may have other characters.
fn wire_id(id: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=64).contains(&id.len()) && id.bytes().all(plain) {
        return Cow::Borrowed(id);
    }
    Cow::Owned(format!("call_{}", &blake3::hash(id.as_bytes()).to_hex()[..32]))
}
