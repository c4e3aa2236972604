//! Plays one turn of a dialogue.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::{FinishReason, Message, ToolCall};

use super::dialogue::{Call, Dialogue, Line, Mishap, Obstacle, Speech, Turn};
use super::orders::{ORDER_ID, orders};
use super::template::{Filling, fill_value};
use crate::{ChatAnswer, ChatRequest, DeltaSink, LlmError, REPAIR_NOTE, estimate_usage};

/// How many conversations' failures are remembered before they are all forgotten.
const MAX_COUNTS: usize = 10_000;

pub(super) struct Player {
    dialogue: Dialogue,
    /// How often an obstacle was met, by (turn, obstacle, prompt).
    met: Mutex<HashMap<(usize, usize, u64), u32>>,
}

impl Player {
    pub(super) fn new(dialogue: Dialogue) -> Self {
        Self { dialogue, met: Mutex::default() }
    }

    pub(super) async fn play(&self, request: &ChatRequest, on_delta: &DeltaSink<'_>) -> Result<ChatAnswer, LlmError> {
        let filling = read(&request.messages);
        let scene = Scene { request, filling, on_delta };
        if self.dialogue.obeys {
            let tool_calls = orders(&request.messages, scene.filling.turn);
            if !tool_calls.is_empty() {
                let usage = estimate_usage(request, 0);
                let (text, reasoning) = (String::new(), Vec::new());
                return Ok(ChatAnswer { text, tool_calls, reasoning, finish: FinishReason::ToolCalls, usage });
            }
        }
        let Some(turn) = self.turn(scene.filling.turn) else {
            let turns = self.dialogue.turns.len();
            return Err(scene.refused(format!("its dialogue has only {turns} turns; give the last one `repeat: true`")));
        };
        if let Some(obstacle) = self.obstacle(turn, &scene.filling) {
            return Err(scene.fail(obstacle).await);
        }
        match &turn.line {
            Some(line) => scene.answer(line).await,
            None => Err(scene.refused("its dialogue ends with failures; add a turn that answers".to_owned())),
        }
    }

    fn turn(&self, number: usize) -> Option<&Turn> {
        let turns = &self.dialogue.turns;
        turns.get(number).or_else(|| if self.dialogue.repeat { turns.last() } else { None })
    }

    /// The first obstacle that has not been met as often as it says.
    fn obstacle<'a>(&self, turn: &'a Turn, filling: &Filling<'_>) -> Option<&'a Obstacle> {
        if turn.obstacles.is_empty() {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        filling.prompt.hash(&mut hasher);
        let prompt = hasher.finish();
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        if met.len() > MAX_COUNTS {
            met.clear();
        }
        turn.obstacles.iter().enumerate().find_map(|(index, obstacle)| {
            let Some(times) = obstacle.times else { return Some(obstacle) };
            let count = met.entry((filling.turn, index, prompt)).or_default();
            if *count >= times {
                return None;
            }
            *count += 1;
            Some(obstacle)
        })
    }
}

/// Reads from a conversation where its dialogue stands.
///
/// The last user message that is not a repair note is the prompt, and the answers after it are the turns already played.
/// Both come from the journal alone, so a call that is repeated after a crash gets the same turn; what a thread said
/// before the prompt does not count, so each message of a thread begins the dialogue anew.
fn read(messages: &[Message]) -> Filling<'_> {
    let mut filling = Filling { prompt: "", last_tool_result: "", turn: 0 };
    let mut tool_seen = false;
    for message in messages.iter().rev() {
        match message {
            Message::Assistant { tool_calls, .. } => {
                let obeyed = tool_calls.iter().any(|call| call.id.starts_with(ORDER_ID));
                filling.turn += usize::from(!obeyed);
            }
            Message::Tool { text, .. } if !tool_seen => {
                tool_seen = true;
                filling.last_tool_result = text;
            }
            Message::User { text, .. } if !text.starts_with(REPAIR_NOTE) => {
                filling.prompt = text;
                break;
            }
            _ => {}
        }
    }
    filling
}

/// One call of the model.
struct Scene<'a> {
    request: &'a ChatRequest,
    filling: Filling<'a>,
    on_delta: &'a DeltaSink<'a>,
}

impl Scene<'_> {
    async fn answer(&self, line: &Line) -> Result<ChatAnswer, LlmError> {
        let text = line.speech.text.fill(&self.filling);
        self.speak(&line.speech, &text).await?;
        let tool_calls: Vec<ToolCall> =
            line.calls.iter().enumerate().map(|(index, call)| self.call(index, call)).collect();
        let usage = line.usage.unwrap_or_else(|| {
            let called: usize = tool_calls.iter().map(|call| call.name.len() + call.arguments.to_string().len()).sum();
            estimate_usage(self.request, text.len() + called)
        });
        Ok(ChatAnswer { text, tool_calls, reasoning: Vec::new(), finish: line.finish, usage })
    }

    fn call(&self, index: usize, call: &Call) -> ToolCall {
        let arguments =
            if call.has_holes { fill_value(&call.arguments, &self.filling) } else { call.arguments.clone() };
        ToolCall { id: format!("call-{}-{index}", self.filling.turn), name: call.name.clone(), arguments }
    }

    async fn fail(&self, obstacle: &Obstacle) -> LlmError {
        let text = obstacle.speech.text.fill(&self.filling);
        if let Err(error) = self.speak(&obstacle.speech, &text).await {
            return error;
        }
        let model = self.model();
        let retry_after = obstacle.retry_after;
        match obstacle.mishap {
            Mishap::RateLimited => LlmError::RateLimited { model, retry_after },
            Mishap::Unavailable => {
                LlmError::Unavailable { model, reason: "its dialogue says so".to_owned(), retry_after }
            }
            Mishap::Timeout => self.silent_for(self.request.timeout),
            Mishap::Invalid => LlmError::Invalid { model, reason: "its dialogue says so".to_owned() },
            Mishap::Refused => self.refused("its dialogue says so".to_owned()),
            Mishap::Cut => LlmError::Invalid { model, reason: "the answer was cut off".to_owned() },
            Mishap::ContextTooLong => LlmError::ContextTooLong { model },
            Mishap::Hang => {
                let patience = if text.is_empty() { self.request.timeout } else { self.request.idle_timeout };
                tokio::time::sleep(patience).await;
                self.silent_for(patience)
            }
        }
    }

    /// Speaks a text piece by piece, within the request's limits.
    async fn speak(&self, speech: &Speech, text: &str) -> Result<(), LlmError> {
        let mut spent = Duration::ZERO;
        self.wait(speech.delay, self.request.timeout, &mut spent).await?;
        for (index, piece) in pieces(text, speech.chunks).enumerate() {
            if index > 0 {
                self.wait(speech.chunk_delay, self.request.idle_timeout, &mut spent).await?;
            }
            (self.on_delta)(piece);
        }
        Ok(())
    }

    /// Waits; not at all, and without a timer, for no time. Fails as soon as the patience or the call's time is over.
    async fn wait(&self, time: Duration, patience: Duration, spent: &mut Duration) -> Result<(), LlmError> {
        if time.is_zero() {
            return Ok(());
        }
        let patience = patience.min(self.request.timeout.saturating_sub(*spent));
        tokio::time::sleep(time.min(patience)).await;
        *spent += time;
        if time > patience { Err(self.silent_for(patience)) } else { Ok(()) }
    }

    fn silent_for(&self, time: Duration) -> LlmError {
        LlmError::Timeout { model: self.model(), millis: time.as_millis() as u64 }
    }

    fn refused(&self, reason: String) -> LlmError {
        LlmError::Refused { model: self.model(), reason }
    }

    fn model(&self) -> String {
        format!("scripted/{}", self.request.model)
    }
}

/// Cuts a text into so many pieces of about the same length, or into its words; together they are the text.
fn pieces(text: &str, chunks: Option<usize>) -> impl Iterator<Item = &str> {
    let length = chunks.map(|chunks| text.len().div_ceil(chunks.max(1)).max(1));
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = length.map_or_else(|| end_of_word(rest), |length| end_of_piece(rest, length));
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

fn end_of_piece(text: &str, length: usize) -> usize {
    (length..text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len())
}

/// The end of the first word and of the space that follows it.
fn end_of_word(text: &str) -> usize {
    let mut word_ended = false;
    let mut word_began = false;
    for (index, letter) in text.char_indices() {
        if word_ended && !letter.is_whitespace() {
            return index;
        }
        word_ended = word_began && letter.is_whitespace();
        word_began |= !letter.is_whitespace();
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_of_a_text_are_the_text() {
        for text in ["", " ", "one", "one two  three ", "  später\n\nmehr ✓✓✓✓ und so"] {
            for chunks in [None, Some(0), Some(1), Some(2), Some(7), Some(1_000)] {
                let all: Vec<&str> = pieces(text, chunks).collect();
                assert_eq!(all.concat(), text);
                assert!(all.iter().all(|piece| !piece.is_empty()));
                if let Some(chunks) = chunks {
                    assert!(all.len() <= chunks.max(1), "{all:?}");
                }
            }
        }
        assert_eq!(pieces("one two  three ", None).collect::<Vec<_>>(), ["one ", "two  ", "three "]);
    }
}
