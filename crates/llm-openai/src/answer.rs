//! Chunks become an answer, or an error: nothing in between.

use std::collections::{BTreeMap, BTreeSet};

use domain::{FinishReason, ToolCall, Usage};
use llm::{ArgumentsError, ChatAnswer, DeltaSink, parse_arguments, tokens_of};
use serde_json::Value;

use crate::chunk::{CallDelta, Choice, Chunk, ChunkDelta};

/// No model reads or writes more tokens in one call; a larger count is an error of the server.
const MAX_TOKENS: u64 = 20_000_000;

/// An answer in the making.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    text: String,
    thought_bytes: usize,
    calls: BTreeMap<u32, PartialCall>,
    finish: Option<FinishReason>,
    usage: Option<Value>,
}

#[derive(Debug, Default)]
struct PartialCall {
    id: String,
    name: String,
    arguments: String,
}

/// Why an answer is not accepted. Says nothing of what was answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("the answer was cut off before it said why it ended")]
    CutOff,
    #[error("an event of the stream is not a chunk of an answer")]
    NotAChunk,
    #[error("a chunk has no choices")]
    NoChoices,
    #[error("more than one answer was given, although one was asked for")]
    SeveralChoices,
    #[error("the answer went on after its end")]
    AfterTheEnd,
    #[error("the answer ended twice")]
    TwoEnds,
    #[error("the answer ended for a reason that is not known")]
    UnknownEnd,
    #[error("the answer is empty")]
    Empty,
    #[error("the output limit was reached before anything was said; raise max_output_tokens")]
    EmptyAtLimit,
    #[error("the answer was cut off ({0:?}) while it asked for tools, so none is run")]
    CutOffCalls(FinishReason),
    #[error("the answer ended to have tools run, but asked for none")]
    NoCalls,
    #[error("more than {max} tool calls were asked for at once")]
    TooManyCalls { max: usize },
    #[error("a tool call has no id")]
    NoCallId,
    #[error("two tool calls have the same id, or one has two")]
    DuplicateCallId,
    #[error("a tool call names no tool, or two")]
    CallName,
    #[error("a tool call is not of type function")]
    CallKind,
    #[error(transparent)]
    Arguments(#[from] ArgumentsError),
}

impl Assembly {
    /// Takes one more chunk.
    pub(crate) fn take(&mut self, chunk: Chunk, max_calls: usize, on_delta: &DeltaSink<'_>) -> Result<(), Flaw> {
        let has_usage = chunk.usage.as_ref().is_some_and(|usage| !usage.is_null());
        if has_usage {
            self.usage = chunk.usage;
        }
        match chunk.choices {
            None if has_usage => Ok(()),
            None => Err(Flaw::NoChoices),
            // The first chunk of some servers, and the one with the usage, have an empty list.
            Some(choices) => choices.into_iter().try_for_each(|choice| self.take_choice(choice, max_calls, on_delta)),
        }
    }

    /// Tells whether the answer has said why it ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// The whole answer to a request of so many bytes.
    pub(crate) fn complete(self, request_bytes: usize) -> Result<ChatAnswer, Flaw> {
        let finish = self.finish.ok_or(Flaw::CutOff)?;
        let finish = match (finish, self.calls.is_empty()) {
            (FinishReason::Length | FinishReason::ContentFilter, false) => return Err(Flaw::CutOffCalls(finish)),
            (FinishReason::ToolCalls, true) => return Err(Flaw::NoCalls),
            // Several servers end an answer with tool calls as if it were a text.
            (FinishReason::Stop | FinishReason::ToolCalls, false) => FinishReason::ToolCalls,
            (FinishReason::Stop, true) if self.text.is_empty() => return Err(Flaw::Empty),
            (FinishReason::Length, true) if self.text.is_empty() => return Err(Flaw::EmptyAtLimit),
            (finish, true) => finish,
        };
        let called: usize = self.calls.values().map(|call| call.name.len() + call.arguments.len()).sum();
        let spoken = self.text.len() + self.thought_bytes + called;
        let usage = usage(self.usage.as_ref(), request_bytes, spoken);
        let mut ids = BTreeSet::new();
        let mut tool_calls = Vec::with_capacity(self.calls.len());
        for call in self.calls.into_values() {
            if !ids.insert(call.id.clone()) {
                return Err(Flaw::DuplicateCallId);
            }
            tool_calls.push(call.complete()?);
        }
        Ok(ChatAnswer { text: self.text, tool_calls, reasoning: Vec::new(), finish, usage })
    }

    fn take_choice(&mut self, choice: Choice, max_calls: usize, on_delta: &DeltaSink<'_>) -> Result<(), Flaw> {
        if choice.index != 0 {
            return Err(Flaw::SeveralChoices);
        }
        let delta = choice.delta.unwrap_or_default();
        if self.is_finished() && !delta.is_empty() {
            return Err(Flaw::AfterTheEnd);
        }
        self.thought_bytes += delta.reasoning_content.as_deref().map_or(0, str::len);
        for said in [delta.content, delta.refusal].into_iter().flatten().filter(|said| !said.is_empty()) {
            self.text.push_str(&said);
            on_delta(&said);
        }
        for call in delta.tool_calls.unwrap_or_default() {
            self.take_call(call, max_calls)?;
        }
        match choice.finish_reason.as_deref() {
            None | Some("") => Ok(()),
            Some(_) if self.is_finished() => Err(Flaw::TwoEnds),
            Some(reason) => {
                self.finish = Some(match reason {
                    "stop" => FinishReason::Stop,
                    "tool_calls" => FinishReason::ToolCalls,
                    "length" => FinishReason::Length,
                    "content_filter" => FinishReason::ContentFilter,
                    _ => return Err(Flaw::UnknownEnd),
                });
                Ok(())
            }
        }
    }

    fn take_call(&mut self, delta: CallDelta, max_calls: usize) -> Result<(), Flaw> {
        if delta.kind.as_deref().is_some_and(|kind| !kind.is_empty() && kind != "function") {
            return Err(Flaw::CallKind);
        }
        let id = delta.id.unwrap_or_default();
        // A server that does not number its calls sends each whole, or goes on with the last.
        let last = self.calls.last_key_value().map(|(index, _)| *index);
        let index = delta.index.unwrap_or_else(|| match last {
            Some(last) if id.is_empty() => last,
            Some(last) => last.saturating_add(1),
            None => 0,
        });
        if !self.calls.contains_key(&index) && self.calls.len() >= max_calls {
            return Err(Flaw::TooManyCalls { max: max_calls });
        }
        let call = self.calls.entry(index).or_default();
        if !id.is_empty() && call.id.is_empty() {
            call.id = id;
        } else if !id.is_empty() && call.id != id {
            return Err(Flaw::DuplicateCallId);
        }
        let Some(function) = delta.function else { return Ok(()) };
        let name = function.name.unwrap_or_default();
        if !name.is_empty() && call.name.is_empty() {
            call.name = name;
        } else if !name.is_empty() && call.name != name {
            return Err(Flaw::CallName);
        }
        call.arguments.push_str(&function.arguments.unwrap_or_default());
        Ok(())
    }
}

impl ChunkDelta {
    fn is_empty(&self) -> bool {
        let silent = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
        silent(&self.content) && silent(&self.refusal) && self.tool_calls.as_ref().is_none_or(Vec::is_empty)
    }
}

impl PartialCall {
    fn complete(self) -> Result<ToolCall, Flaw> {
        if self.id.trim().is_empty() {
            return Err(Flaw::NoCallId);
        }
        if self.name.trim().is_empty() {
            return Err(Flaw::CallName);
        }
        Ok(ToolCall { id: self.id, name: self.name, arguments: parse_arguments(&self.arguments)? })
    }
}

/// The usage that the server reports, as far as it is credible; the rest is estimated, and never too low.
fn usage(reported: Option<&Value>, request_bytes: usize, answer_bytes: usize) -> Usage {
    // Something was always read and written, so a count of nothing is none.
    let count = |key: &str| {
        reported.and_then(|usage| usage.get(key)?.as_u64()).filter(|count| (1..=MAX_TOKENS).contains(count))
    };
    let (input, output) = (count("prompt_tokens"), count("completion_tokens"));
    Usage {
        input_tokens: input.unwrap_or_else(|| tokens_of(request_bytes)),
        output_tokens: output.unwrap_or_else(|| tokens_of(answer_bytes)),
        estimated: input.is_none() || output.is_none(),
        ..Usage::default()
    }
}
