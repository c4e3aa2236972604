//! A request in the protocol's words.
//!
//! Roles alternate there: what the user says and what tools answered is one message until the model speaks again. No text
//! may be empty. What the model thought goes before what it said, word for word.

use std::borrow::Cow;
use std::collections::BTreeSet;

use domain::agent::Effort;
use domain::{Image, Message, Reasoning, ToolCall, ToolSpec};
use llm::ChatRequest;
use llm_http::{ImageError, ImageSource, WireNames, image_source};
use serde::Serialize;
use serde_json::{Value, json};

use crate::DIALECT;

/// The limit when the request names none; the protocol wants one.
const MAX_TOKENS: u32 = 4_096;
/// The least that the protocol calls thinking.
const LEAST_BUDGET: u32 = 1_024;
/// The protocol's scale ends here, ours at 2.
const HOTTEST: f64 = 1.0;
/// A prefix that is shorter is not worth its place in the provider's cache, which takes none below about 1,024 tokens.
const WORTH_CACHING: usize = 4_096;

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
    /// By a number of tokens; what all models with thinking know, up to a generation.
    Budget,
    /// By a degree; what the models after that know.
    Adaptive,
    /// Not at all: the model does not think.
    None,
}

impl Features {
    pub(crate) const ALL: Self = Self { format: true, temperature: true, thinking: Thinking::Budget };

    /// The part of them that is the model's own and holds for other requests, if there is any.
    pub(crate) fn of_the_model(self) -> Option<Self> {
        // A schema, or a thought of another model's, may have been the request's own fault.
        let thinking = if self.thinking == Thinking::Adaptive { Thinking::Adaptive } else { Thinking::Budget };
        Some(Self { format: true, temperature: self.temperature, thinking }).filter(|lasting| *lasting != Self::ALL)
    }

    /// The features without the one that the complaint names, if it is one that the request made use of.
    pub(crate) fn without_what_is_named(self, complaint: &str, request: &ChatRequest) -> Option<Self> {
        let asks_to_think = request.effort.is_some_and(|effort| effort != Effort::Minimal);
        if asks_to_think && self.thinking == Thinking::Budget && complaint.contains("adaptive") {
            return Some(Self { thinking: Thinking::Adaptive, ..self });
        }
        let names_format = ["output_config", "schema", "grammar"].iter().any(|word| complaint.contains(word));
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
struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    stream: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Cached<Block<'a>>>,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Cached<Tool<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<ToolChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<WireThinking>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig<'a>>,
}

/// Something up to which the provider may keep what it has read.
#[derive(Serialize)]
struct Cached<T> {
    #[serde(flatten)]
    inner: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl>,
}

#[derive(Serialize)]
struct CacheControl {
    r#type: &'static str,
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
#[serde(tag = "type", rename_all = "snake_case")]
enum KnownBlock<'a> {
    Text {
        text: &'a str,
    },
    Image {
        source: Source<'a>,
    },
    ToolUse {
        id: Cow<'a, str>,
        name: Cow<'a, str>,
        input: &'a Value,
    },
    ToolResult {
        tool_use_id: Cow<'a, str>,
        #[serde(skip_serializing_if = "str::is_empty")]
        content: &'a str,
    },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Source<'a> {
    Base64 { media_type: &'a str, data: &'a str },
    Url { url: &'a str },
}

#[derive(Serialize)]
struct Tool<'a> {
    name: Cow<'a, str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    input_schema: Cow<'a, Value>,
}

#[derive(Serialize)]
struct ToolChoice {
    r#type: &'static str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireThinking {
    Enabled { budget_tokens: u32 },
    Adaptive,
}

#[derive(Serialize)]
struct OutputConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Format<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'static str>,
}

#[derive(Serialize)]
struct Format<'a> {
    r#type: &'static str,
    schema: &'a Value,
}

/// Why a request cannot be put into the protocol's words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("the request cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// The body of a request.
pub(crate) fn body(request: &ChatRequest, names: &WireNames, features: Features) -> Result<Vec<u8>, RequestError> {
    let max_tokens = request.max_output_tokens.unwrap_or(MAX_TOKENS);
    let thinking = thinking(request, features.thinking, max_tokens);
    let effort = match thinking {
        Some(WireThinking::Adaptive) => request.effort.map(degree),
        _ => None,
    };
    let schema = request.output_schema.as_ref().filter(|_| features.format);
    let format = schema.map(|schema| Format { r#type: "json_schema", schema });
    // A budget for thinking and a wish for randomness exclude each other.
    let temperature = request.temperature.filter(|_| features.temperature && thinking.is_none());
    let (system, tools) = prefix(request, names);
    // Tools that are only explained, because they were called before, are not to be called again.
    let explained = request.tools.is_empty() && !tools.is_empty();
    Ok(serde_json::to_vec(&Body {
        model: &request.model,
        max_tokens,
        stream: true,
        system,
        messages: turns(request, names)?,
        tools,
        tool_choice: explained.then_some(ToolChoice { r#type: "none" }),
        temperature: temperature.map(|temperature| temperature.min(HOTTEST)),
        thinking,
        output_config: (format.is_some() || effort.is_some()).then_some(OutputConfig { format, effort }),
    })?)
}

fn thinking(request: &ChatRequest, how: Thinking, max_tokens: u32) -> Option<WireThinking> {
    let level = match request.effort? {
        Effort::Minimal => return None,
        Effort::Low => 1_024,
        Effort::Medium => 4_096,
        Effort::High => 16_384,
    };
    if !may_think(&request.messages) {
        return None;
    }
    match how {
        Thinking::None => None,
        Thinking::Adaptive => Some(WireThinking::Adaptive),
        // A quarter of the limit is left for what is said in the end.
        Thinking::Budget => Some(level.min(max_tokens - max_tokens.div_ceil(4)))
            .filter(|budget| *budget >= LEAST_BUDGET)
            .map(|budget_tokens| WireThinking::Enabled { budget_tokens }),
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

fn degree(effort: Effort) -> &'static str {
    match effort {
        Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
    }
}

/// What stands before the conversation and is the same in each request of an agent.
fn prefix<'a>(request: &'a ChatRequest, names: &'a WireNames) -> (Vec<Cached<Block<'a>>>, Vec<Cached<Tool<'a>>>) {
    let texts = request.messages.iter().filter_map(|message| match message {
        Message::System { text } if !text.trim().is_empty() => Some(text.as_str()),
        _ => None,
    });
    let mut bytes = 0;
    let mut system: Vec<_> = texts
        .map(|text| {
            bytes += text.len();
            Cached { inner: Block::Known(KnownBlock::Text { text }), cache_control: None }
        })
        .collect();
    let mut tools: Vec<_> = tools(request, names)
        .into_iter()
        .map(|tool| {
            bytes += tool.description.len() + tool.input_schema.to_string().len();
            Cached { inner: tool, cache_control: None }
        })
        .collect();
    // The tools are read before the system's words, so one mark at the end is enough for both.
    let end = system.last_mut().map(|last| &mut last.cache_control);
    let end = end.or_else(|| tools.last_mut().map(|last| &mut last.cache_control));
    if let Some(end) = end.filter(|_| bytes >= WORTH_CACHING) {
        *end = Some(CacheControl { r#type: "ephemeral" });
    }
    (system, tools)
}

/// The tools that are offered. Where none is, those that were called before, for the protocol takes no calls of tools that
/// it does not know.
fn tools<'a>(request: &'a ChatRequest, names: &'a WireNames) -> Vec<Tool<'a>> {
    if !request.tools.is_empty() {
        let tool = |spec: &'a ToolSpec| Tool {
            name: names.wire(&spec.name),
            description: &spec.description,
            input_schema: Cow::Borrowed(&spec.parameters),
        };
        return request.tools.iter().map(tool).collect();
    }
    let called = request.messages.iter().flat_map(|message| match message {
        Message::Assistant { tool_calls, .. } => tool_calls.as_slice(),
        _ => &[],
    });
    let called: BTreeSet<&str> = called.map(|call| call.name.as_str()).collect();
    let tool = |name: &'a str| {
        let anything = Cow::Owned(json!({ "type": "object" }));
        Tool { name: names.wire(name), description: "", input_schema: anything }
    };
    called.into_iter().map(tool).collect()
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
                let tool_use_id = wire_id(call_id);
                (Role::User, vec![Block::Known(KnownBlock::ToolResult { tool_use_id, content: text })])
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
        let source = match image_source(image)? {
            ImageSource::Data { media_type, base64 } => Source::Base64 { media_type, data: base64 },
            ImageSource::Url(url) => Source::Url { url },
        };
        blocks.push(Block::Known(KnownBlock::Image { source }));
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
    let mut blocks: Vec<Block<'a>> = reasoning.iter().filter_map(own_block).map(Block::Theirs).collect();
    let thought_only = text.trim().is_empty() && tool_calls.is_empty();
    if thought_only {
        // Nothing was said, so there is no turn that the thoughts belong to.
        blocks.clear();
    }
    blocks.extend(spoken(text));
    blocks.extend(tool_calls.iter().map(|call| {
        let (id, name) = (wire_id(&call.id), names.wire(&call.name));
        Block::Known(KnownBlock::ToolUse { id, name, input: &call.arguments })
    }));
    blocks
}

fn spoken(text: &str) -> Option<Block<'_>> {
    (!text.trim().is_empty()).then_some(Block::Known(KnownBlock::Text { text }))
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
