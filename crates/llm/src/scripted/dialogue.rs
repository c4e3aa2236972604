//! Dialogues as people write them, and as they are played.

use std::time::Duration;

use domain::{FinishReason, HumanDuration, Usage};
use serde::Deserialize;
use serde_json::{Value, json};

use super::template::{Template, holes_in};

/// The longest dialogue file, in bytes.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;
const MAX_TURNS: usize = 10_000;

/// What a scripted model says, turn by turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Dialogue {
    pub(super) turns: Vec<Turn>,
    /// The last turn is played for ever.
    pub(super) repeat: bool,
    /// What tools answer is obeyed.
    pub(super) obeys: bool,
}

/// One answer, and what goes wrong before it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Turn {
    pub(super) obstacles: Vec<Obstacle>,
    /// None where the dialogue ends with an obstacle.
    pub(super) line: Option<Line>,
}

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Obstacle {
    pub(super) mishap: Mishap,
    /// How often; none for ever.
    pub(super) times: Option<u32>,
    pub(super) retry_after: Option<Duration>,
    /// What is said before it goes wrong.
    pub(super) speech: Speech,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mishap {
    RateLimited,
    Timeout,
    Unavailable,
    Invalid,
    Refused,
    Cut,
    ContextTooLong,
    #[serde(skip)]
    Hang,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) speech: Speech,
    pub(super) calls: Vec<Call>,
    pub(super) finish: FinishReason,
    pub(super) usage: Option<Usage>,
}

/// A text, and how fast it is spoken.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Speech {
    pub(super) text: Template,
    pub(super) delay: Duration,
    pub(super) chunk_delay: Duration,
    /// How many pieces; none for one a word.
    pub(super) chunks: Option<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) arguments: Value,
    pub(super) has_holes: bool,
}

/// Why a dialogue cannot be played.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DialogueError {
    /// Not YAML, or not of this form.
    #[error("{0}")]
    Yaml(String),
    /// A turn contradicts itself.
    #[error("turn {turn}: {reason}")]
    Turn {
        /// Its position in the file, from 1.
        turn: usize,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Too big.
    #[error("a dialogue has at most {MAX_TURNS} turns and {MAX_FILE_BYTES} bytes")]
    TooBig,
    /// It says nothing.
    #[error("a dialogue needs at least one turn under `turns:`")]
    Empty,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    #[serde(default, rename = "description")]
    _description: Option<String>,
    turns: Vec<TurnForm>,
    #[serde(default)]
    obeys: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TurnForm {
    text: Option<String>,
    #[serde(default)]
    tool_calls: Vec<CallForm>,
    usage: Option<UsageForm>,
    finish: Option<FinishReason>,
    delay: Option<HumanDuration>,
    chunk_delay: Option<HumanDuration>,
    chunks: Option<usize>,
    fail: Option<Mishap>,
    times: Option<u32>,
    retry_after: Option<HumanDuration>,
    #[serde(default)]
    repeat: bool,
    #[serde(default)]
    hang: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallForm {
    name: String,
    #[serde(default)]
    arguments: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UsageForm {
    input_tokens: u64,
    output_tokens: u64,
}

impl Dialogue {
    /// Reads a dialogue from YAML.
    pub fn parse(yaml: &str) -> Result<Self, DialogueError> {
        if yaml.len() > MAX_FILE_BYTES {
            return Err(DialogueError::TooBig);
        }
        let budget = serde_saphyr::budget! { max_depth: 64, max_nodes: 200_000, max_aliases: 100, max_documents: 1 };
        let options = serde_saphyr::options! { budget: budget, with_snippet: false };
        let form: FileForm = serde_saphyr::from_str_with_options(yaml, options)
            .map_err(|error| DialogueError::Yaml(error.to_string()))?;
        if form.turns.len() > MAX_TURNS {
            return Err(DialogueError::TooBig);
        }
        Ok(Self { obeys: form.obeys, ..Self::from_form(form.turns)? })
    }

    /// A model that always gives the same answer; for tests.
    pub fn says(text: impl Into<String>) -> Self {
        let line =
            Line { speech: Speech::at_once(text.into()), calls: Vec::new(), finish: FinishReason::Stop, usage: None };
        Self { turns: vec![Turn { obstacles: Vec::new(), line: Some(line) }], repeat: true, obeys: false }
    }

    /// A task of so many journaled steps of so many bytes each, for benchmarks.
    ///
    /// Answers that call the tool `echo` once alternate with its results, and a text ends the task: three steps are a
    /// call, its result and the text. An even number is reached by a first answer with two calls; two steps cannot be
    /// had and become three. No call is like another, so that no loop detector is woken.
    pub fn steps(steps: usize, bytes: usize) -> Self {
        let tokens = crate::tokens_of(bytes);
        let usage = Some(Usage::tokens(tokens, tokens));
        let filler = |mark: String| {
            let rest = bytes.saturating_sub(mark.len());
            mark + &"x".repeat(rest)
        };
        let steps = if steps == 2 { 3 } else { steps };
        let rounds = steps.saturating_sub(1) / 2;
        let extra = usize::from(steps > 1 && steps % 2 == 0);
        let mut turns = Vec::with_capacity(rounds + 1);
        // Of an even number, one step is the second call of the first answer.
        for round in 0..rounds {
            let calls = if round == 0 { 1 + extra } else { 1 };
            let calls = (0..calls)
                .map(|index| Call {
                    name: "echo".to_owned(),
                    arguments: json!({ "text": filler(format!("{round}.{index} ")) }),
                    has_holes: false,
                })
                .collect();
            let speech = Speech::at_once(String::new());
            turns.push(Turn {
                obstacles: Vec::new(),
                line: Some(Line { speech, calls, finish: FinishReason::ToolCalls, usage }),
            });
        }
        let speech = Speech::at_once(filler("done ".to_owned()));
        let line = Line { speech, calls: Vec::new(), finish: FinishReason::Stop, usage };
        turns.push(Turn { obstacles: Vec::new(), line: Some(line) });
        Self { turns, repeat: false, obeys: false }
    }

    fn from_form(forms: Vec<TurnForm>) -> Result<Self, DialogueError> {
        let mut turns = Vec::new();
        let mut obstacles = Vec::new();
        let mut repeat = false;
        for (index, form) in forms.into_iter().enumerate() {
            let wrong = |reason: String| DialogueError::Turn { turn: index + 1, reason };
            if repeat {
                return Err(wrong("nothing can follow a turn that repeats for ever".to_owned()));
            }
            let repeats_another = form.is_lone_repeat();
            repeat = form.repeat;
            if repeats_another {
                if turns.is_empty() || !obstacles.is_empty() {
                    return Err(wrong("`repeat: true` alone must follow the answer that it repeats".to_owned()));
                }
                continue;
            }
            match form.read().map_err(wrong)? {
                Entry::Obstacle(obstacle) => obstacles.push(obstacle),
                Entry::Line(line) => {
                    turns.push(Turn { obstacles: std::mem::take(&mut obstacles), line: Some(line) });
                }
            }
        }
        if !obstacles.is_empty() {
            turns.push(Turn { obstacles, line: None });
        }
        if turns.is_empty() { Err(DialogueError::Empty) } else { Ok(Self { turns, repeat, obeys: false }) }
    }
}

enum Entry {
    Obstacle(Obstacle),
    Line(Line),
}

impl TurnForm {
    fn is_lone_repeat(&self) -> bool {
        self.repeat && self.text.is_none() && self.tool_calls.is_empty() && self.fail.is_none() && !self.hang
    }

    fn read(self) -> Result<Entry, String> {
        let mishap = match (self.fail, self.hang) {
            (Some(_), true) => return Err("`fail` and `hang` exclude each other".to_owned()),
            (Some(fail), false) => Some(fail),
            (None, true) => Some(Mishap::Hang),
            (None, false) => None,
        };
        let speech = Speech {
            text: Template::parse(self.text.clone().unwrap_or_default())?,
            delay: self.delay.map_or(Duration::ZERO, |delay| delay.0),
            chunk_delay: self.chunk_delay.map_or(Duration::ZERO, |delay| delay.0),
            chunks: self.chunks,
        };
        let Some(mishap) = mishap else { return self.read_line(speech).map(Entry::Line) };
        if !self.tool_calls.is_empty() || self.usage.is_some() || self.finish.is_some() || self.repeat {
            return Err("a turn that fails or hangs has no tool_calls, usage, finish or repeat".to_owned());
        }
        let retry_after = self.retry_after.map(|after| after.0);
        if retry_after.is_some() && !matches!(mishap, Mishap::RateLimited | Mishap::Unavailable) {
            return Err("`retry_after` goes with `fail: rate_limited` and `fail: unavailable`".to_owned());
        }
        Ok(Entry::Obstacle(Obstacle { mishap, times: self.times, retry_after, speech }))
    }

    fn read_line(self, speech: Speech) -> Result<Line, String> {
        if self.times.is_some() || self.retry_after.is_some() {
            return Err("`times` and `retry_after` go with `fail` or `hang`".to_owned());
        }
        if self.text.is_none() && self.tool_calls.is_empty() {
            return Err("needs `text`, `tool_calls`, `fail`, `hang` or `repeat`".to_owned());
        }
        let calls = self.tool_calls.into_iter().map(CallForm::read).collect::<Result<Vec<_>, String>>()?;
        let finish = match (self.finish, calls.is_empty()) {
            (None, true) => FinishReason::Stop,
            (None | Some(FinishReason::ToolCalls), false) => FinishReason::ToolCalls,
            (Some(FinishReason::ToolCalls), true) => return Err("`finish: tool_calls` needs `tool_calls`".to_owned()),
            (Some(finish), true) => finish,
            (Some(_), false) => return Err("an answer that was cut off has no `tool_calls`".to_owned()),
        };
        let usage = self.usage.map(|usage| Usage::tokens(usage.input_tokens, usage.output_tokens));
        Ok(Line { speech, calls, finish, usage })
    }
}

impl CallForm {
    fn read(self) -> Result<Call, String> {
        let arguments = self.arguments.unwrap_or_else(|| json!({}));
        if !arguments.is_object() {
            return Err(format!("the arguments of {} must be a map", self.name));
        }
        let has_holes = holes_in(&arguments)?;
        Ok(Call { name: self.name, arguments, has_holes })
    }
}

impl Speech {
    fn at_once(text: String) -> Self {
        Self { text: Template::Plain(text), delay: Duration::ZERO, chunk_delay: Duration::ZERO, chunks: Some(1) }
    }
}
