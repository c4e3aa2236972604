//! Lines become an answer, or an error: nothing in between.

use domain::{FinishReason, Reasoning};
use llm::{ChatAnswer, DeltaSink};
use llm_http::{Complaint, Draft, Flaw, Reported, WireNames, count};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::DIALECT;

/// One line of a streamed answer. Unknown fields are ignored; known ones of a wrong type are not.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    message: Option<LineMessage<'a>>,
    #[serde(default)]
    done: bool,
    done_reason: Option<String>,
    /// Read by hand, so that a strange count does not cost an answer.
    prompt_eval_count: Option<Value>,
    eval_count: Option<Value>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct LineMessage<'a> {
    content: Option<String>,
    thinking: Option<String>,
    #[serde(borrow)]
    tool_calls: Option<Vec<LineCall<'a>>>,
}

#[derive(Deserialize)]
struct LineCall<'a> {
    #[serde(borrow)]
    function: LineFunction<'a>,
}

#[derive(Deserialize)]
struct LineFunction<'a> {
    name: String,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

/// Why a line ends the answer early.
#[derive(Debug)]
pub(crate) enum Broken {
    /// It is not accepted.
    Flaw(Flaw),
    /// The server says what went wrong.
    Complaint(Complaint),
}

impl From<Flaw> for Broken {
    fn from(flaw: Flaw) -> Self {
        Self::Flaw(flaw)
    }
}

/// An answer in the making.
#[derive(Debug)]
pub(crate) struct Assembly {
    draft: Draft,
    thought: String,
    reported: Reported,
    /// The last line with calls, as it came.
    calls: String,
}

impl Assembly {
    pub(crate) fn new(max_calls: usize) -> Self {
        Self {
            draft: Draft::new(max_calls),
            thought: String::new(),
            reported: Reported::default(),
            calls: String::new(),
        }
    }

    /// Takes one more line; tells whether it was the last.
    pub(crate) fn take(&mut self, line: &str, on_delta: &DeltaSink<'_>) -> Result<bool, Broken> {
        let told = line;
        // The parser's own message would repeat what the model said.
        let line: Line<'_> = serde_json::from_str(told).map_err(|_| Flaw::NotAChunk)?;
        if let Some(error) = line.error.filter(|error| !error.is_null()) {
            return Err(Broken::Complaint(Complaint::from_value(&json!({ "error": error }))));
        }
        if self.draft.is_ended() {
            return Err(Flaw::AfterTheEnd.into());
        }
        if line.message.as_ref().is_some_and(|message| message.tool_calls.is_some()) {
            // Each line has its moment, so two calls that are alike still differ; the same line twice is one call.
            if self.calls == told {
                return Err(Flaw::Other("a line of the stream came twice").into());
            }
            told.clone_into(&mut self.calls);
        }
        match line.message {
            Some(message) => self.take_message(message, on_delta)?,
            None if line.done => {}
            None => return Err(Flaw::NotAChunk.into()),
        }
        if !line.done {
            return Ok(false);
        }
        self.reported.input = count(line.prompt_eval_count.as_ref());
        self.reported.output = count(line.eval_count.as_ref());
        self.draft.end(match line.done_reason.as_deref() {
            // Older servers give no reason.
            None | Some("stop") => FinishReason::Stop,
            Some("length") => FinishReason::Length,
            Some("load" | "unload") => return Err(Flaw::Other("the model was loaded, and not asked").into()),
            Some(_) => return Err(Flaw::UnknownEnd.into()),
        })?;
        Ok(true)
    }

    /// The whole answer to a request of so many bytes.
    pub(crate) fn complete(mut self, names: &WireNames, request_bytes: usize) -> Result<ChatAnswer, Flaw> {
        if !self.thought.is_empty() {
            self.draft.keep(Reasoning { text: self.thought, opaque: Some(json!({ "dialect": DIALECT })) });
        }
        self.draft.complete(names, self.reported, request_bytes)
    }

    fn take_message(&mut self, message: LineMessage<'_>, on_delta: &DeltaSink<'_>) -> Result<(), Flaw> {
        self.thought.push_str(&message.thinking.unwrap_or_default());
        self.draft.say(&message.content.unwrap_or_default(), on_delta)?;
        for call in message.tool_calls.unwrap_or_default() {
            let index = self.draft.last_call().map_or(0, |last| last + 1);
            let draft = self.draft.call(index)?;
            draft.id(&format!("call-{index}"))?;
            draft.name(&call.function.name)?;
            draft.arguments(call.function.arguments.map_or("null", RawValue::get));
        }
        Ok(())
    }
}
