//! Events become an answer, or an error: nothing in between.

use std::collections::BTreeMap;

use aws_smithy_types::event_stream::Message;
use domain::{FinishReason, Reasoning};
use llm::{ChatAnswer, DeltaSink};
use llm_http::{Draft, Flaw, Reported, WireNames, count};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::DIALECT;
use crate::frames::header;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockStart {
    content_block_index: u32,
    start: Option<Start>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start {
    tool_use: Option<ToolStart>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolStart {
    tool_use_id: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockDelta {
    content_block_index: u32,
    delta: Delta,
}

/// One of these; what is unknown has none.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delta {
    text: Option<String>,
    tool_use: Option<ToolDelta>,
    reasoning_content: Option<ReasoningDelta>,
}

#[derive(Deserialize)]
struct ToolDelta {
    input: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReasoningDelta {
    text: Option<String>,
    signature: Option<String>,
    redacted_content: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockStop {
    content_block_index: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageStop {
    stop_reason: String,
}

#[derive(Deserialize)]
struct Metadata {
    /// Read by hand, so that a strange count does not cost an answer.
    usage: Option<Value>,
}

/// A part of an answer in the making.
#[derive(Debug)]
enum Block {
    Text,
    Tool,
    Thought(Thought),
    Closed,
}

#[derive(Debug, Default)]
struct Thought {
    text: String,
    signature: String,
    redacted: Option<String>,
}

/// What an event was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// A sign of the model.
    Heard,
    /// The answer is whole; only the usage may still come.
    Ended,
    /// Nothing that comes later matters.
    Last,
    /// Nothing that is known.
    Nothing,
}

/// An answer in the making.
#[derive(Debug)]
pub(crate) struct Assembly {
    draft: Draft,
    begun: bool,
    /// Text and thoughts begin with their first piece, calls with an event of their own.
    blocks: BTreeMap<u32, Block>,
    calls_end_it: bool,
    usage: Value,
}

impl Assembly {
    pub(crate) fn new(max_calls: usize) -> Self {
        Self {
            draft: Draft::new(max_calls),
            begun: false,
            blocks: BTreeMap::new(),
            calls_end_it: false,
            usage: Value::Null,
        }
    }

    /// Takes one more event.
    pub(crate) fn take(&mut self, frame: &Message, on_delta: &DeltaSink<'_>) -> Result<Sign, Flaw> {
        let kind = header(frame, ":event-type").ok_or(Flaw::NotAChunk)?;
        if !self.begun && kind != "messageStart" {
            return Err(OUT_OF_ORDER);
        }
        match kind {
            "messageStart" if self.begun => return Err(Flaw::SeveralChoices),
            "messageStart" => self.begun = true,
            "contentBlockStart" => self.start(read(frame)?)?,
            "contentBlockDelta" => self.go_on(read(frame)?, on_delta)?,
            "contentBlockStop" => self.stop(&read(frame)?)?,
            "messageStop" => {
                self.end(&read::<MessageStop>(frame)?.stop_reason)?;
                return Ok(Sign::Ended);
            }
            "metadata" => {
                self.usage = read::<Metadata>(frame)?.usage.unwrap_or_default();
                return Ok(if self.draft.is_ended() { Sign::Last } else { Sign::Nothing });
            }
            _ => return Ok(Sign::Nothing),
        }
        Ok(Sign::Heard)
    }

    /// The whole answer to a request of so many bytes.
    pub(crate) fn complete(self, names: &WireNames, request_bytes: usize) -> Result<ChatAnswer, Flaw> {
        let reported = reported(&self.usage);
        let calls_by_the_way = self.draft.last_call().is_some() && !self.calls_end_it;
        let answer = self.draft.complete(names, reported, request_bytes)?;
        if calls_by_the_way { Err(CALLS_BY_THE_WAY) } else { Ok(answer) }
    }

    fn start(&mut self, event: BlockStart) -> Result<(), Flaw> {
        if self.blocks.contains_key(&event.content_block_index) {
            return Err(OUT_OF_ORDER);
        }
        // A block of another kind begins with its first piece.
        let Some(tool) = event.start.and_then(|start| start.tool_use) else { return Ok(()) };
        let call = self.draft.call(event.content_block_index)?;
        call.id(&tool.tool_use_id)?;
        call.name(&tool.name)?;
        self.blocks.insert(event.content_block_index, Block::Tool);
        Ok(())
    }

    fn go_on(&mut self, event: BlockDelta, on_delta: &DeltaSink<'_>) -> Result<(), Flaw> {
        if self.draft.is_ended() {
            return Err(Flaw::AfterTheEnd);
        }
        let (index, delta) = (event.content_block_index, event.delta);
        if let Some(text) = delta.text {
            return match self.blocks.entry(index).or_insert(Block::Text) {
                Block::Text => self.draft.say(&text, on_delta),
                _ => Err(OUT_OF_ORDER),
            };
        }
        if let Some(tool) = delta.tool_use {
            return match self.blocks.get(&index) {
                Some(Block::Tool) => {
                    self.draft.call(index)?.arguments(&tool.input);
                    Ok(())
                }
                _ => Err(OUT_OF_ORDER),
            };
        }
        let Some(piece) = delta.reasoning_content else { return Ok(()) };
        match self.blocks.entry(index).or_insert_with(|| Block::Thought(Thought::default())) {
            Block::Thought(thought) => thought.take(piece),
            _ => Err(OUT_OF_ORDER),
        }
    }

    fn stop(&mut self, event: &BlockStop) -> Result<(), Flaw> {
        match self.blocks.insert(event.content_block_index, Block::Closed) {
            Some(Block::Closed) => Err(OUT_OF_ORDER),
            Some(Block::Tool) => {
                let call = self.draft.call(event.content_block_index)?;
                if call.arguments_so_far().is_empty() {
                    // The protocol has no other way to say that a call, which it says is whole, has no arguments.
                    call.arguments("{}");
                }
                Ok(())
            }
            Some(Block::Thought(thought)) => {
                self.draft.keep(thought.complete());
                Ok(())
            }
            Some(Block::Text) | None => Ok(()),
        }
    }

    fn end(&mut self, stop_reason: &str) -> Result<(), Flaw> {
        if self.blocks.values().any(|block| matches!(block, Block::Tool | Block::Thought(_))) {
            return Err(OUT_OF_ORDER);
        }
        self.calls_end_it = stop_reason == "tool_use";
        self.draft.end(match stop_reason {
            "end_turn" | "stop_sequence" => FinishReason::Stop,
            "tool_use" => FinishReason::ToolCalls,
            "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
            "content_filtered" | "guardrail_intervened" => FinishReason::ContentFilter,
            "malformed_model_output" | "malformed_tool_use" => return Err(MALFORMED),
            _ => return Err(Flaw::UnknownEnd),
        })
    }
}

impl Thought {
    fn take(&mut self, piece: ReasoningDelta) -> Result<(), Flaw> {
        self.text.push_str(&piece.text.unwrap_or_default());
        self.signature.push_str(&piece.signature.unwrap_or_default());
        match piece.redacted_content {
            Some(_) if self.redacted.is_some() => Err(OUT_OF_ORDER),
            Some(redacted) => {
                self.redacted = Some(redacted);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Only what is signed or hidden is wanted back.
    fn complete(self) -> Reasoning {
        let content = match self.redacted {
            Some(redacted) => Some(json!({ "redactedContent": redacted })),
            None if self.signature.is_empty() => None,
            None => Some(json!({ "reasoningText": { "text": self.text, "signature": self.signature } })),
        };
        let block = content.map(|content| json!({ "reasoningContent": content }));
        Reasoning { text: self.text, opaque: block.map(|block| json!({ "dialect": DIALECT, "block": block })) }
    }
}

const OUT_OF_ORDER: Flaw = Flaw::Other("the events of the answer are out of order");
const CALLS_BY_THE_WAY: Flaw = Flaw::Other("tools were asked for, but the answer did not end to have them run");
const MALFORMED: Flaw = Flaw::Other("the provider says that what the model gave is malformed");

/// The parser's own message would repeat what the model said.
fn read<T: DeserializeOwned>(frame: &Message) -> Result<T, Flaw> {
    serde_json::from_slice(frame.payload()).map_err(|_| Flaw::NotAChunk)
}

/// The protocol counts what came from the cache, and what went into it, beside the tokens read; we count it among them.
fn reported(usage: &Value) -> Reported {
    let told = |key: &str| count(usage.get(key));
    let cached = told("cacheReadInputTokens");
    let written = told("cacheWriteInputTokens");
    Reported {
        input: told("inputTokens").map(|rest| rest + cached.unwrap_or(0) + written.unwrap_or(0)),
        output: told("outputTokens"),
        cached_input: cached,
        cache_write: written,
        reasoning: None,
    }
}
