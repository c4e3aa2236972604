//! Pieces become an answer, or an error: nothing in between.
//!
//! What comes from a model is about to be done, so the rules are the same for all dialects: an answer counts when it has
//! said why it ended, and tools are run only when it ended by itself and each call is one whole JSON object.

use std::collections::{BTreeMap, BTreeSet};

use domain::{FinishReason, Reasoning, ToolCall};
use llm::{ArgumentsError, ChatAnswer, DeltaSink, parse_arguments};

use crate::{Reported, WireNames};

/// An answer in the making.
#[derive(Debug)]
pub struct Draft {
    text: String,
    reasoning: Vec<Reasoning>,
    calls: BTreeMap<u32, CallDraft>,
    max_calls: usize,
    finish: Option<FinishReason>,
}

/// A tool call in the making.
#[derive(Debug, Default)]
pub struct CallDraft {
    id: String,
    name: String,
    arguments: String,
}

/// Why an answer is not accepted. Says nothing of what was answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// No reason for the end has come.
    #[error("the answer was cut off before it said why it ended")]
    CutOff,
    /// A piece of the stream is not of the protocol.
    #[error("an event of the stream is not a chunk of an answer")]
    NotAChunk,
    /// A chunk without any choice.
    #[error("a chunk has no choices")]
    NoChoices,
    /// Several answers to one question.
    #[error("more than one answer was given, although one was asked for")]
    SeveralChoices,
    /// Something came after the end.
    #[error("the answer went on after its end")]
    AfterTheEnd,
    /// Two reasons for the end.
    #[error("the answer ended twice")]
    TwoEnds,
    /// A reason for the end that is not known.
    #[error("the answer ended for a reason that is not known")]
    UnknownEnd,
    /// Neither words nor calls.
    #[error("the answer is empty")]
    Empty,
    /// Neither words nor calls, for lack of room.
    #[error("the output limit was reached before anything was said; raise max_output_tokens")]
    EmptyAtLimit,
    /// Calls in an answer that did not end by itself.
    #[error("the answer was cut off ({0:?}) while it asked for tools, so none is run")]
    CutOffCalls(FinishReason),
    /// No call in an answer that ended for its calls.
    #[error("the answer ended to have tools run, but asked for none")]
    NoCalls,
    /// Too many calls.
    #[error("more than {max} tool calls were asked for at once")]
    TooManyCalls {
        /// The most.
        max: usize,
    },
    /// A call without an id.
    #[error("a tool call has no id")]
    NoCallId,
    /// An id that is not one call's own.
    #[error("two tool calls have the same id, or one has two")]
    DuplicateCallId,
    /// A call of no tool, or of two.
    #[error("a tool call names no tool, or two")]
    CallName,
    /// A call of something else than a function.
    #[error("a tool call is not of type function")]
    CallKind,
    /// Arguments that are not exactly one JSON object.
    #[error(transparent)]
    Arguments(#[from] ArgumentsError),
    /// The pieces of a part are not what the whole of it says.
    #[error("the pieces of the answer differ from what it says in the end")]
    PiecesDiffer,
    /// Something else, in the dialect's own words, which repeat nothing of the answer.
    #[error("{0}")]
    Other(&'static str),
}

impl Draft {
    /// An answer that may ask for so many tool calls.
    pub fn new(max_calls: usize) -> Self {
        Self { text: String::new(), reasoning: Vec::new(), calls: BTreeMap::new(), max_calls, finish: None }
    }

    /// Adds words, and streams them. Empty words are nothing.
    pub fn say(&mut self, words: &str, on_delta: &DeltaSink<'_>) -> Result<(), Flaw> {
        if words.is_empty() {
            return Ok(());
        }
        self.still_open()?;
        self.text.push_str(words);
        on_delta(words);
        Ok(())
    }

    /// What was said so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Adds words to the last piece of reasoning that is words alone.
    pub fn think(&mut self, words: &str) {
        if words.is_empty() {
            return;
        }
        match self.reasoning.last_mut() {
            Some(last) if last.opaque.is_none() => last.text.push_str(words),
            _ => self.reasoning.push(Reasoning { text: words.to_owned(), opaque: None }),
        }
    }

    /// Adds a whole piece of reasoning.
    pub fn keep(&mut self, piece: Reasoning) {
        self.reasoning.push(piece);
    }

    /// The call of this number, begun if it is new.
    pub fn call(&mut self, index: u32) -> Result<&mut CallDraft, Flaw> {
        self.still_open()?;
        if !self.calls.contains_key(&index) && self.calls.len() >= self.max_calls {
            return Err(Flaw::TooManyCalls { max: self.max_calls });
        }
        Ok(self.calls.entry(index).or_default())
    }

    /// The highest number of a call so far.
    pub fn last_call(&self) -> Option<u32> {
        self.calls.last_key_value().map(|(index, _)| *index)
    }

    /// The answer has ended for this reason; once.
    pub fn end(&mut self, reason: FinishReason) -> Result<(), Flaw> {
        if self.finish.replace(reason).is_some() { Err(Flaw::TwoEnds) } else { Ok(()) }
    }

    /// Tells whether the answer has said why it ended.
    pub fn is_ended(&self) -> bool {
        self.finish.is_some()
    }

    /// The whole answer to a request of so many bytes.
    pub fn complete(self, names: &WireNames, reported: Reported, request_bytes: usize) -> Result<ChatAnswer, Flaw> {
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
        let thought: usize = self.reasoning.iter().map(thought_bytes).sum();
        let usage = reported.usage(request_bytes, self.text.len() + thought + called);
        let mut ids = BTreeSet::new();
        let mut tool_calls = Vec::with_capacity(self.calls.len());
        for call in self.calls.into_values() {
            if !ids.insert(call.id.clone()) {
                return Err(Flaw::DuplicateCallId);
            }
            tool_calls.push(call.complete(names)?);
        }
        Ok(ChatAnswer { text: self.text, tool_calls, reasoning: self.reasoning, finish, usage })
    }

    fn still_open(&self) -> Result<(), Flaw> {
        if self.is_ended() { Err(Flaw::AfterTheEnd) } else { Ok(()) }
    }
}

/// What cannot be read is longer than what was thought, so that an estimate from it is not too low.
fn thought_bytes(piece: &Reasoning) -> usize {
    piece.text.len() + piece.opaque.as_ref().map_or(0, |opaque| opaque.to_string().len())
}

impl CallDraft {
    /// Tells its id; the same as before, when it is told again. An empty one is none.
    pub fn id(&mut self, id: &str) -> Result<(), Flaw> {
        once(&mut self.id, id, Flaw::DuplicateCallId)
    }

    /// Tells the name of its tool, as the protocol has it; the same as before, when it is told again. An empty one is none.
    pub fn name(&mut self, name: &str) -> Result<(), Flaw> {
        once(&mut self.name, name, Flaw::CallName)
    }

    /// Adds to its arguments.
    pub fn arguments(&mut self, piece: &str) {
        self.arguments.push_str(piece);
    }

    /// Its arguments so far.
    pub fn arguments_so_far(&self) -> &str {
        &self.arguments
    }

    fn complete(self, names: &WireNames) -> Result<ToolCall, Flaw> {
        if self.id.trim().is_empty() {
            return Err(Flaw::NoCallId);
        }
        if self.name.trim().is_empty() {
            return Err(Flaw::CallName);
        }
        let arguments = parse_arguments(&self.arguments)?;
        Ok(ToolCall { id: self.id, name: names.ours(&self.name).to_owned(), arguments })
    }
}

fn once(known: &mut String, told: &str, flaw: Flaw) -> Result<(), Flaw> {
    if known.is_empty() {
        told.clone_into(known);
    } else if !told.is_empty() && known != told {
        return Err(flaw);
    }
    Ok(())
}
