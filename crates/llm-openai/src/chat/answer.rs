//! Chunks become an answer.

use domain::FinishReason;
use llm::{ChatAnswer, DeltaSink};
use llm_http::{Draft, Flaw, Reported, WireNames, count};
use serde_json::Value;

use super::chunk::{CallDelta, Choice, Chunk, ChunkDelta};

/// An answer in the making.
#[derive(Debug)]
pub(super) struct Assembly {
    draft: Draft,
    usage: Option<Value>,
}

impl Assembly {
    pub(super) fn new(max_calls: usize) -> Self {
        Self { draft: Draft::new(max_calls), usage: None }
    }

    /// Takes one more chunk.
    pub(super) fn take(&mut self, chunk: Chunk, on_delta: &DeltaSink<'_>) -> Result<(), Flaw> {
        let has_usage = chunk.usage.as_ref().is_some_and(|usage| !usage.is_null());
        if has_usage {
            self.usage = chunk.usage;
        }
        match chunk.choices {
            None if has_usage => Ok(()),
            None => Err(Flaw::NoChoices),
            // The first chunk of some servers, and the one with the usage, have an empty list.
            Some(choices) => choices.into_iter().try_for_each(|choice| self.take_choice(choice, on_delta)),
        }
    }

    /// Tells whether the answer has said why it ended.
    pub(super) fn is_ended(&self) -> bool {
        self.draft.is_ended()
    }

    /// The whole answer to a request of so many bytes.
    pub(super) fn complete(self, names: &WireNames, request_bytes: usize) -> Result<ChatAnswer, Flaw> {
        self.draft.complete(names, reported(self.usage.as_ref()), request_bytes)
    }

    fn take_choice(&mut self, choice: Choice, on_delta: &DeltaSink<'_>) -> Result<(), Flaw> {
        if choice.index != 0 {
            return Err(Flaw::SeveralChoices);
        }
        let ChunkDelta { content, refusal, reasoning_content, reasoning, tool_calls } =
            choice.delta.unwrap_or_default();
        self.draft.think(&reasoning_content.or(reasoning).unwrap_or_default());
        for said in [content, refusal].into_iter().flatten() {
            self.draft.say(&said, on_delta)?;
        }
        for call in tool_calls.unwrap_or_default() {
            self.take_call(&call)?;
        }
        match choice.finish_reason.as_deref() {
            None | Some("") => Ok(()),
            Some("stop") => self.draft.end(FinishReason::Stop),
            Some("tool_calls") => self.draft.end(FinishReason::ToolCalls),
            Some("length") => self.draft.end(FinishReason::Length),
            Some("content_filter") => self.draft.end(FinishReason::ContentFilter),
            Some(_) if self.is_ended() => Err(Flaw::TwoEnds),
            Some(_) => Err(Flaw::UnknownEnd),
        }
    }

    fn take_call(&mut self, delta: &CallDelta) -> Result<(), Flaw> {
        if delta.kind.as_deref().is_some_and(|kind| !kind.is_empty() && kind != "function") {
            return Err(Flaw::CallKind);
        }
        let id = delta.id.as_deref().unwrap_or_default();
        // A server that does not number its calls sends each whole, or goes on with the last.
        let index = delta.index.unwrap_or_else(|| match self.draft.last_call() {
            Some(last) if id.is_empty() => last,
            Some(last) => last.saturating_add(1),
            None => 0,
        });
        let call = self.draft.call(index)?;
        call.id(id)?;
        let Some(function) = &delta.function else { return Ok(()) };
        call.name(function.name.as_deref().unwrap_or_default())?;
        call.arguments(function.arguments.as_deref().unwrap_or_default());
        Ok(())
    }
}

fn reported(usage: Option<&Value>) -> Reported {
    let at = |pointer: &str| count(usage.and_then(|usage| usage.pointer(pointer)));
    Reported {
        input: at("/prompt_tokens"),
        output: at("/completion_tokens"),
        cached_input: at("/prompt_tokens_details/cached_tokens"),
        cache_write: None,
        reasoning: at("/completion_tokens_details/reasoning_tokens"),
    }
}
