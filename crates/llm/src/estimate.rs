//! What a call used, when its provider does not say: never too little, for a budget is kept with it.

use domain::{Message, Usage};

use crate::ChatRequest;

/// Tokens that so many bytes are at most, for ordinary text: a third of them, rounded up.
pub fn tokens_of(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(3)
}

/// Estimates what an answer of `answer_bytes` to a request used.
pub fn estimate_usage(request: &ChatRequest, answer_bytes: usize) -> Usage {
    let said: usize = request.messages.iter().map(message_bytes).sum();
    let offered: usize = request.tools.iter().map(tool_bytes).sum();
    Usage { estimated: true, ..Usage::tokens(tokens_of(said + offered), tokens_of(answer_bytes)) }
}

/// The most tokens that a request can be read as: a byte each, which no tokenizer exceeds, and what stands around messages and tools.
///
/// `known` is how many of the first messages a model has already counted, and its count: for those the count holds.
pub fn most_tokens(request: &ChatRequest, known: Option<(usize, u64)>) -> u64 {
    let (skip, counted) = known.unwrap_or_default();
    let said: usize = request.messages.iter().skip(skip).map(message_bytes).sum();
    let pictures: usize = request.messages.iter().skip(skip).map(pictures).sum();
    let schema = request.output_schema.as_ref().map_or(0, |schema| schema.to_string().len());
    let offered: usize = if skip > 0 { 0 } else { request.tools.iter().map(tool_bytes).sum::<usize>() + schema };
    counted.saturating_add((said + offered) as u64).saturating_add(pictures as u64 * PICTURE_TOKENS)
}

/// The most tokens that a picture is read as by the providers in use.
const PICTURE_TOKENS: u64 = 8_192;

fn pictures(message: &Message) -> usize {
    match message {
        Message::User { images, .. } => images.len(),
        _ => 0,
    }
}

fn tool_bytes(tool: &domain::ToolSpec) -> usize {
    FRAME + tool.name.len() + tool.description.len() + tool.parameters.to_string().len()
}

/// What every chat template puts around a message or a tool.
const FRAME: usize = 12;

fn message_bytes(message: &Message) -> usize {
    FRAME
        + match message {
            Message::System { text } | Message::User { text, .. } | Message::Tool { text, .. } => text.len(),
            Message::Assistant { text, tool_calls, .. } => {
                let calls = tool_calls.iter().map(|call| FRAME + call.name.len() + call.arguments.to_string().len());
                text.len() + calls.sum::<usize>()
            }
        }
}
