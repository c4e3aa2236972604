//! A request in the protocol's words.

use std::borrow::Cow;

use domain::agent::Effort;
use domain::{Image, Message, Reasoning, ToolCall, ToolSpec};
use llm::ChatRequest;
use llm_http::{ImageError, WireNames, image_source};
use serde::Serialize;
use serde_json::Value;

use crate::features::{Feature, LeftOut};
use crate::request::BodyError;

/// Who understands what is kept of a model's thoughts.
pub(super) const DIALECT: &str = "openai-responses";

/// How a server's complaint names what it does not know.
pub(super) const FEATURES: [(Feature, &str); 5] = [
    (Feature::SealedReasoning, "ncrypted"),
    (Feature::OutputSchema, "text.format"),
    (Feature::Effort, "reasoning.effort"),
    (Feature::Effort, "'reasoning'"),
    (Feature::Temperature, "'temperature'"),
];

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    input: Vec<Item<'a>>,
    stream: bool,
    /// The journal keeps the conversation; the provider shall not.
    store: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    include: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Thinking>,
}

#[derive(Serialize)]
struct Thinking {
    effort: Effort,
}

#[derive(Serialize)]
struct Text<'a> {
    format: Format<'a>,
}

#[derive(Serialize)]
struct Format<'a> {
    r#type: &'static str,
    name: &'static str,
    schema: &'a Value,
    /// The strict mode takes only schemas of a narrow form; the answer is checked here anyway.
    strict: bool,
}

#[derive(Serialize)]
struct Tool<'a> {
    r#type: &'static str,
    name: Cow<'a, str>,
    description: &'a str,
    parameters: &'a Value,
    /// Absent means strict in this protocol, which would change the schema.
    strict: bool,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Item<'a> {
    Message {
        role: &'static str,
        content: Vec<Part<'a>>,
    },
    FunctionCall {
        call_id: &'a str,
        name: Cow<'a, str>,
        arguments: String,
    },
    FunctionCallOutput {
        call_id: &'a str,
        output: &'a str,
    },
    /// Word for word what the provider gave.
    #[serde(untagged)]
    Sealed(&'a Value),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part<'a> {
    InputText { text: &'a str },
    InputImage { image_url: &'a str, detail: &'static str },
    OutputText { text: &'a str },
}

/// The body of a request.
pub(super) fn body(request: &ChatRequest, names: &WireNames, left_out: &LeftOut) -> Result<Vec<u8>, BodyError> {
    let sealed = left_out.keeps(Feature::SealedReasoning);
    let mut input = Vec::with_capacity(request.messages.len());
    for message in &request.messages {
        add(&mut input, message, names, sealed)?;
    }
    let schema = request.output_schema.as_ref().filter(|_| left_out.keeps(Feature::OutputSchema));
    Ok(serde_json::to_vec(&Body {
        model: &request.model,
        input,
        stream: true,
        store: false,
        include: if sealed { vec!["reasoning.encrypted_content"] } else { Vec::new() },
        tools: request.tools.iter().map(|spec| tool(spec, names)).collect(),
        text: schema
            .map(|schema| Text { format: Format { r#type: "json_schema", name: "answer", schema, strict: false } }),
        temperature: request.temperature.filter(|_| left_out.keeps(Feature::Temperature)),
        max_output_tokens: request.max_output_tokens,
        reasoning: request.effort.filter(|_| left_out.keeps(Feature::Effort)).map(|effort| Thinking { effort }),
    })?)
}

fn add<'a>(
    input: &mut Vec<Item<'a>>,
    message: &'a Message,
    names: &'a WireNames,
    sealed: bool,
) -> Result<(), ImageError> {
    match message {
        Message::System { text } => {
            input.push(Item::Message { role: "system", content: vec![Part::InputText { text }] });
        }
        Message::User { text, images } => input.push(Item::Message { role: "user", content: parts(text, images)? }),
        Message::Assistant { text, tool_calls, reasoning } => {
            let words = Some(Item::Message { role: "assistant", content: vec![Part::OutputText { text }] });
            let words = words.filter(|_| !text.is_empty());
            let mut thoughts = reasoning.iter().filter_map(thought).filter(|_| sealed).peekable();
            for (place, said) in words.into_iter().chain(tool_calls.iter().map(|asked| call(asked, names))).enumerate()
            {
                while let Some((_, item)) = thoughts.next_if(|(after, _)| *after <= place) {
                    input.push(Item::Sealed(item));
                }
                input.push(said);
            }
            input.extend(thoughts.map(|(_, item)| Item::Sealed(item)));
        }
        Message::Tool { call_id, text } => input.push(Item::FunctionCallOutput { call_id, output: text }),
    }
    Ok(())
}

/// A piece of reasoning that this protocol gave, and how many other pieces of the answer came before it.
fn thought(piece: &Reasoning) -> Option<(usize, &Value)> {
    let opaque = piece.opaque.as_ref().filter(|opaque| opaque["dialect"] == DIALECT)?;
    Some((opaque["after"].as_u64().unwrap_or(0) as usize, opaque.get("item")?))
}

fn parts<'a>(text: &'a str, images: &'a [Image]) -> Result<Vec<Part<'a>>, ImageError> {
    let words = Some(Part::InputText { text }).filter(|_| !text.is_empty() || images.is_empty());
    let pictures = images.iter().map(|image| {
        image_source(image)?;
        Ok(Part::InputImage { image_url: image.url.trim(), detail: "auto" })
    });
    words.map(Ok).into_iter().chain(pictures).collect()
}

fn call<'a>(call: &'a ToolCall, names: &'a WireNames) -> Item<'a> {
    Item::FunctionCall { call_id: &call.id, name: names.wire(&call.name), arguments: call.arguments.to_string() }
}

fn tool<'a>(spec: &'a ToolSpec, names: &'a WireNames) -> Tool<'a> {
    let ToolSpec { name, description, parameters, .. } = spec;
    Tool { r#type: "function", name: names.wire(name), description, parameters, strict: false }
}
