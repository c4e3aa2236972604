//! Events become an answer. What comes in pieces comes again as a whole, twice: all must say the same.

use std::collections::{BTreeMap, BTreeSet};

use domain::{FinishReason, Reasoning};
use llm::{ChatAnswer, DeltaSink};
use llm_http::{Draft, Flaw, Reported, WireNames, count};
use serde_json::{Value, json};

use super::event::{Event, Item, Response};
use super::request::DIALECT;

/// An answer in the making.
#[derive(Debug)]
pub(super) struct Assembly {
    draft: Draft,
    /// The words of each part, to be compared with the whole of it.
    parts: BTreeMap<(u32, u32), String>,
    /// The calls whose arguments have begun, and whether these are whole.
    arguments: BTreeMap<u32, bool>,
    /// The calls that are whole.
    called: BTreeSet<u32>,
    /// How many pieces of the output other than reasoning have begun.
    pieces: usize,
    usage: Option<Value>,
}

impl Assembly {
    pub(super) fn new(max_calls: usize) -> Self {
        Self {
            draft: Draft::new(max_calls),
            parts: BTreeMap::new(),
            arguments: BTreeMap::new(),
            called: BTreeSet::new(),
            pieces: 0,
            usage: None,
        }
    }

    /// Tells whether the answer has said why it ended.
    pub(super) fn is_ended(&self) -> bool {
        self.draft.is_ended()
    }

    /// Takes one more event.
    pub(super) fn take(&mut self, event: Event, on_delta: &DeltaSink<'_>) -> Result<(), Flaw> {
        match event {
            Event::Text { output_index, content_index, delta }
            | Event::Refusal { output_index, content_index, delta } => {
                self.draft.say(&delta, on_delta)?;
                self.parts.entry((output_index, content_index)).or_default().push_str(&delta);
                Ok(())
            }
            Event::TextDone { output_index, content_index, text }
            | Event::RefusalDone { output_index, content_index, refusal: text } => {
                self.all_words((output_index, content_index), &text, on_delta)
            }
            Event::Arguments { output_index, delta } => {
                if self.arguments.insert(output_index, false) == Some(true) {
                    return Err(Flaw::PiecesDiffer);
                }
                self.draft.call(output_index)?.arguments(&delta);
                Ok(())
            }
            Event::ArgumentsDone { output_index, arguments } => self.all_arguments(output_index, &arguments),
            Event::Added { output_index, item } => self.begin(output_index, &item),
            Event::ItemDone { output_index, item } => self.item(output_index, &item),
            Event::Completed { response } => {
                if response.status.as_deref().is_some_and(|status| status != "completed") {
                    return Err(Flaw::UnknownEnd);
                }
                self.agrees(&response)?;
                let called = self.draft.last_call().is_some();
                self.end(if called { FinishReason::ToolCalls } else { FinishReason::Stop }, response)
            }
            Event::Incomplete { response } => {
                let reason = response.incomplete_details.as_ref().and_then(|details| details.reason.as_deref());
                match reason {
                    Some("max_output_tokens") => self.end(FinishReason::Length, response),
                    Some("content_filter") => self.end(FinishReason::ContentFilter, response),
                    _ => Err(Flaw::UnknownEnd),
                }
            }
            Event::Failed { .. } | Event::Error { .. } | Event::Summary {} | Event::Thought {} | Event::Other => Ok(()),
        }
    }

    /// The whole answer to a request of so many bytes.
    pub(super) fn complete(self, names: &WireNames, request_bytes: usize) -> Result<ChatAnswer, Flaw> {
        let at = |pointer: &str| count(self.usage.as_ref().and_then(|usage| usage.pointer(pointer)));
        let reported = Reported {
            input: at("/input_tokens"),
            output: at("/output_tokens"),
            cached_input: at("/input_tokens_details/cached_tokens"),
            cache_write: None,
            reasoning: at("/output_tokens_details/reasoning_tokens"),
        };
        self.draft.complete(names, reported, request_bytes)
    }

    fn end(&mut self, reason: FinishReason, response: Response) -> Result<(), Flaw> {
        self.draft.end(reason)?;
        self.usage = response.usage;
        Ok(())
    }

    /// The words of a part as a whole, which a server may give without pieces.
    fn all_words(&mut self, part: (u32, u32), text: &str, on_delta: &DeltaSink<'_>) -> Result<(), Flaw> {
        match self.parts.get(&part) {
            Some(pieces) if pieces == text => Ok(()),
            Some(_) => Err(Flaw::PiecesDiffer),
            None => {
                self.parts.insert(part, text.to_owned());
                self.draft.say(text, on_delta)
            }
        }
    }

    /// The arguments of a call as a whole, which a server may give without pieces.
    fn all_arguments(&mut self, index: u32, arguments: &str) -> Result<(), Flaw> {
        let begun = self.arguments.insert(index, true).is_some();
        let call = self.draft.call(index)?;
        if !begun {
            call.arguments(arguments);
        }
        if call.arguments_so_far() == arguments { Ok(()) } else { Err(Flaw::PiecesDiffer) }
    }

    fn begin(&mut self, index: u32, item: &Item) -> Result<(), Flaw> {
        if item.kind != "reasoning" {
            self.pieces += 1;
        }
        if item.kind == "function_call" {
            return self.introduce(index, item);
        }
        is_bearable(&item.kind)
    }

    fn introduce(&mut self, index: u32, item: &Item) -> Result<(), Flaw> {
        let call = self.draft.call(index)?;
        call.id(item.call_id.as_deref().unwrap_or_default())?;
        call.name(item.name.as_deref().unwrap_or_default())
    }

    /// A piece of the output that is whole.
    fn item(&mut self, index: u32, item: &Value) -> Result<(), Flaw> {
        let known: Item = serde_json::from_value(item.clone()).map_err(|_| Flaw::NotAChunk)?;
        match known.kind.as_str() {
            "function_call" => {
                self.introduce(index, &known)?;
                self.called.insert(index);
                self.all_arguments(index, known.arguments.as_deref().ok_or(Flaw::NotAChunk)?)
            }
            "reasoning" => {
                self.draft.keep(reasoning(item, self.pieces));
                Ok(())
            }
            kind => is_bearable(kind),
        }
    }

    /// The response as a whole, if it comes, must ask for the calls that were heard; and those must be whole.
    fn agrees(&self, response: &Response) -> Result<(), Flaw> {
        let begun: BTreeSet<u32> = self.arguments.keys().copied().collect();
        if begun != self.called || self.draft.last_call() != self.called.last().copied() {
            return Err(Flaw::CutOff);
        }
        let output = response.output.as_deref().unwrap_or_default();
        let calls = output.iter().filter(|item| item["type"] == "function_call").count();
        if !output.is_empty() && calls != self.called.len() {
            return Err(Flaw::PiecesDiffer);
        }
        Ok(())
    }
}

/// Tools of the provider's own were not offered, so none may be used.
fn is_bearable(kind: &str) -> Result<(), Flaw> {
    if kind.ends_with("_call") { Err(Flaw::CallKind) } else { Ok(()) }
}

/// A whole piece of reasoning. One that is not sealed means nothing to the provider later, so its words alone are kept.
///
/// `after` is how many pieces of other kinds came before it, for it must go back to the same place.
fn reasoning(item: &Value, after: usize) -> Reasoning {
    let words = |key: &str| {
        let parts = item[key].as_array().into_iter().flatten();
        parts.filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n\n")
    };
    let text = Some(words("summary")).filter(|text| !text.is_empty()).unwrap_or_else(|| words("content"));
    let sealed = item["encrypted_content"].is_string();
    Reasoning { text, opaque: sealed.then(|| json!({ "dialect": DIALECT, "after": after, "item": item })) }
}
