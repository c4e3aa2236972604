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
    let offered: usize = request
        .tools
        .iter()
        .map(|tool| FRAME + tool.name.len() + tool.description.len() + tool.parameters.to_string().len())
        .sum();
    Usage { input_tokens: tokens_of(said + offered), output_tokens: tokens_of(answer_bytes), estimated: true }
}

/// What every chat template puts around a message or a tool.
const FRAME: usize = 12;

fn message_bytes(message: &Message) -> usize {
    FRAME
        + match message {
            Message::System { text } | Message::User { text } | Message::Tool { text, .. } => text.len(),
            Message::Assistant { text, tool_calls } => {
                let calls = tool_calls.iter().map(|call| FRAME + call.name.len() + call.arguments.to_string().len());
                text.len() + calls.sum::<usize>()
            }
        }
}
