//! Events become an answer, or an error: nothing in between.

use domain::{FinishReason, Reasoning};
use llm::{ChatAnswer, DeltaSink};
use llm_http::{Complaint, Draft, Flaw, Reported, WireNames, count};
use serde_json::{Map, Value, json};

use crate::DIALECT;
use crate::event::{
    BlockDelta, BlockStart, BlockStop, Delta, ErrorEvent, MessageDelta, MessageStart, TextBlock, ToolBlock, kind, read,
};

/// An answer in the making.
#[derive(Debug)]
pub(crate) struct Assembly {
    draft: Draft,
    begun: bool,
    stopped: bool,
    /// The block that is being told, with its number; the next has a higher one.
    open: Option<(u32, Block)>,
    next: u32,
    calls_end_it: bool,
    usage: Map<String, Value>,
}

#[derive(Debug)]
enum Block {
    Text,
    Tool {
        call: u32,
        /// What the block said at its start; it counts when no piece follows.
        input: String,
    },
    Thought {
        /// As it came, so that it can be given back word for word.
        block: Map<String, Value>,
    },
    /// Of a kind that this adapter does not ask for.
    Other,
}

/// What an event was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// A sign of the model.
    Heard,
    /// Nothing of the model's.
    Nothing,
    /// The end: nothing that comes later matters.
    Stop,
}

/// Why an event ends the answer early.
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

impl Assembly {
    pub(crate) fn new(max_calls: usize) -> Self {
        Self {
            draft: Draft::new(max_calls),
            begun: false,
            stopped: false,
            open: None,
            next: 0,
            calls_end_it: false,
            usage: Map::new(),
        }
    }

    /// Takes the data of one more event.
    pub(crate) fn take(&mut self, data: &str, on_delta: &DeltaSink<'_>) -> Result<Sign, Broken> {
        match kind(data)?.as_ref() {
            "error" => {
                let error: ErrorEvent = read(data)?;
                return Err(Broken::Complaint(Complaint::from_value(&error.error)));
            }
            "message_start" if self.begun => return Err(Flaw::SeveralChoices.into()),
            "message_start" => {
                self.begun = true;
                self.note_usage(read::<MessageStart>(data)?.message.usage);
            }
            "content_block_start" => self.start(&read(data)?, on_delta)?,
            "content_block_delta" => self.go_on(read(data)?, on_delta)?,
            "content_block_stop" => self.stop(&read(data)?)?,
            "message_delta" => self.end(read(data)?)?,
            "message_stop" => {
                self.stopped = true;
                return Ok(Sign::Stop);
            }
            // Pings among them.
            _ => return Ok(Sign::Nothing),
        }
        Ok(Sign::Heard)
    }

    /// The whole answer to a request of so many bytes.
    pub(crate) fn complete(self, names: &WireNames, request_bytes: usize) -> Result<ChatAnswer, Flaw> {
        if !self.begun || !self.stopped || self.open.is_some() {
            return Err(Flaw::CutOff);
        }
        if self.draft.last_call().is_some() && self.draft.is_ended() && !self.calls_end_it {
            // The draft knows better what to say of an answer that was cut off.
            return self.draft.complete(names, Reported::default(), request_bytes).and(Err(CALLS_BY_THE_WAY));
        }
        let reported = reported(&self.usage);
        self.draft.complete(names, reported, request_bytes)
    }

    fn start(&mut self, start: &BlockStart<'_>, on_delta: &DeltaSink<'_>) -> Result<(), Flaw> {
        if !self.begun || self.open.is_some() || start.index < self.next {
            return Err(OUT_OF_ORDER);
        }
        if self.draft.is_ended() {
            return Err(Flaw::AfterTheEnd);
        }
        self.next = start.index.saturating_add(1);
        let told = start.content_block.get();
        let block = match kind(told)?.as_ref() {
            "text" => {
                let block: TextBlock = read(told)?;
                self.draft.say(&block.text.unwrap_or_default(), on_delta)?;
                Block::Text
            }
            "tool_use" => {
                let block: ToolBlock<'_> = read(told)?;
                let call = self.draft.last_call().map_or(0, |last| last + 1);
                let draft = self.draft.call(call)?;
                draft.id(&block.id)?;
                draft.name(&block.name)?;
                Block::Tool { call, input: block.input.map(|input| input.get().to_owned()).unwrap_or_default() }
            }
            "thinking" | "redacted_thinking" => Block::Thought { block: read(told)? },
            _ => Block::Other,
        };
        self.open = Some((start.index, block));
        Ok(())
    }

    fn go_on(&mut self, event: BlockDelta, on_delta: &DeltaSink<'_>) -> Result<(), Flaw> {
        let Some((index, block)) = &mut self.open else { return Err(OUT_OF_ORDER) };
        if *index != event.index {
            return Err(OUT_OF_ORDER);
        }
        match (block, event.delta) {
            (_, Delta::Unknown) | (Block::Other, _) => Ok(()),
            (Block::Text, Delta::Text { text }) => self.draft.say(&text, on_delta),
            (Block::Tool { call, .. }, Delta::InputJson { partial_json }) => {
                self.draft.call(*call)?.arguments(&partial_json);
                Ok(())
            }
            (Block::Thought { block }, Delta::Thinking { thinking }) => append(block, "thinking", &thinking),
            (Block::Thought { block }, Delta::Signature { signature }) => append(block, "signature", &signature),
            _ => Err(OUT_OF_ORDER),
        }
    }

    fn stop(&mut self, event: &BlockStop) -> Result<(), Flaw> {
        match self.open.take() {
            Some((index, block)) if index == event.index => match block {
                Block::Tool { call, input } => {
                    let draft = self.draft.call(call)?;
                    if draft.arguments_so_far().is_empty() {
                        draft.arguments(&input);
                    }
                    Ok(())
                }
                Block::Thought { block } => {
                    let text = block.get("thinking").and_then(Value::as_str).unwrap_or_default().to_owned();
                    self.draft.keep(Reasoning { text, opaque: Some(json!({ "dialect": DIALECT, "block": block })) });
                    Ok(())
                }
                Block::Text | Block::Other => Ok(()),
            },
            _ => Err(OUT_OF_ORDER),
        }
    }

    fn end(&mut self, event: MessageDelta) -> Result<(), Flaw> {
        if !self.begun || self.open.is_some() {
            return Err(OUT_OF_ORDER);
        }
        self.note_usage(event.usage);
        let Some(reason) = event.delta.stop_reason else { return Ok(()) };
        self.calls_end_it = reason == "tool_use";
        self.draft.end(match reason.as_str() {
            "end_turn" | "stop_sequence" => FinishReason::Stop,
            "tool_use" => FinishReason::ToolCalls,
            // A paused turn is one that the server's own tools have cut off; it offers none to this adapter.
            "max_tokens" | "model_context_window_exceeded" | "pause_turn" => FinishReason::Length,
            "refusal" => FinishReason::ContentFilter,
            _ => return Err(Flaw::UnknownEnd),
        })
    }

    /// Later counts are totals: they replace the earlier ones, and leave alone what they do not name.
    fn note_usage(&mut self, usage: Option<Value>) {
        if let Some(Value::Object(usage)) = usage {
            self.usage.extend(usage.into_iter().filter(|(_, count)| !count.is_null()));
        }
    }
}

const OUT_OF_ORDER: Flaw = Flaw::Other("the events of the answer are out of order");
const CALLS_BY_THE_WAY: Flaw = Flaw::Other("tools were asked for, but the answer did not end to have them run");

fn append(block: &mut Map<String, Value>, key: &str, piece: &str) -> Result<(), Flaw> {
    match block.entry(key).or_insert_with(|| json!("")) {
        Value::String(text) => {
            text.push_str(piece);
            Ok(())
        }
        _ => Err(Flaw::NotAChunk),
    }
}

/// The protocol counts what came from the cache, and what went into it, beside the tokens read; we count it among them.
fn reported(usage: &Map<String, Value>) -> Reported {
    let told = |key: &str| count(usage.get(key));
    let cached = told("cache_read_input_tokens");
    let written = told("cache_creation_input_tokens");
    Reported {
        input: told("input_tokens").map(|rest| rest + cached.unwrap_or(0) + written.unwrap_or(0)),
        output: told("output_tokens"),
        cached_input: cached,
        cache_write: written,
        reasoning: None,
    }
}
