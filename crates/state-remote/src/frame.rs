//! How requests and answers are written: a version and a short header in the first line, JSON in the rest.

use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use state::StateError;

/// The version that this code speaks.
const VERSION: &[u8] = b"1";
/// The longest first line.
const FIRST_LINE_MAX: usize = 4_096;

/// What a request says beside its arguments.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Header {
    /// How long its sender waits, in milliseconds.
    #[serde(default = "a_write")]
    pub(crate) budget_ms: u32,
}

fn a_write() -> u32 {
    10_000
}

/// A request that can be sent several times.
pub(crate) struct Request {
    frame: Bytes,
    budget: Duration,
    arguments: usize,
}

impl Request {
    /// Writes a request.
    pub(crate) fn new<C: Serialize>(budget: Duration, call: &C) -> Result<Self, serde_json::Error> {
        let mut frame = first_line(budget, 256);
        let arguments = frame.len();
        serde_json::to_writer(&mut frame, call)?;
        Ok(Self { frame: frame.into(), budget, arguments })
    }

    /// Its bytes, with what is left of the budget; nothing is copied when that is all of it.
    pub(crate) fn with_budget(&self, budget: Duration) -> Bytes {
        if budget == self.budget {
            return self.frame.clone();
        }
        let arguments = self.frame.get(self.arguments..).unwrap_or_default();
        let mut frame = first_line(budget, arguments.len());
        frame.extend_from_slice(arguments);
        frame.into()
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.frame.len()
    }
}

/// What a caller is told whose arguments cannot be written.
pub(crate) fn encode_error(error: &serde_json::Error) -> StateError {
    StateError::Corrupt(format!("a call to the record cannot be written: {error}"))
}

fn first_line(budget: Duration, more: usize) -> Vec<u8> {
    let budget_ms = u32::try_from(budget.as_millis()).unwrap_or(u32::MAX);
    let mut line = Vec::with_capacity(64 + more);
    line.extend_from_slice(VERSION);
    line.extend_from_slice(format!(" {{\"budget_ms\":{budget_ms}}}\n").as_bytes());
    line
}

/// Reads a request: its header, and where its arguments begin.
pub(crate) fn open(frame: &[u8]) -> Result<(Header, &[u8]), Refusal> {
    let malformed = |what: &str| Refusal { reason: Reason::Malformed, detail: what.to_owned() };
    let (line, arguments) = split(frame).ok_or_else(|| malformed("the request has no first line"))?;
    let Some(at) = line.iter().position(|byte| *byte == b' ') else {
        return Err(malformed("the first line has no version"));
    };
    let (version, header) = line.split_at(at);
    if version != VERSION {
        let is_number = !version.is_empty() && version.len() < 8 && version.iter().all(u8::is_ascii_digit);
        let detail = "this server speaks version 1 of the calls to the record".to_owned();
        return Err(if is_number {
            Refusal { reason: Reason::Version, detail }
        } else {
            malformed("the first line has no version")
        });
    }
    let header = serde_json::from_slice(header).map_err(|error| malformed(&format!("its header: {error}")))?;
    Ok((header, arguments))
}

fn split(frame: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = frame.iter().take(FIRST_LINE_MAX).position(|byte| *byte == b'\n')?;
    Some((frame.get(..end)?, frame.get(end + 1..)?))
}

/// Why a server did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// The reason.
    pub(crate) reason: Reason,
    /// The same for a person.
    pub(crate) detail: String,
}

/// The reasons of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// Too many requests are under way; nothing was done.
    Overloaded,
    /// Its time had passed before it began; nothing was done.
    Expired,
    /// Its time passed while it was under way: nobody knows what became of it.
    Late,
    /// The server stops: nobody knows what became of it.
    Stopping,
    /// The request, or the list that it asks for, is above a limit.
    TooLarge,
    /// The server does not speak this version.
    Version,
    /// The server cannot read it.
    Malformed,
    /// A reason of a newer version.
    #[serde(other)]
    Other,
}

impl Reason {
    /// The name as it is written in JSON and in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::Expired => "expired",
            Self::Late => "late",
            Self::Stopping => "stopping",
            Self::TooLarge => "too_large",
            Self::Version => "version",
            Self::Malformed => "malformed",
            Self::Other => "other",
        }
    }
}

/// What an answer says.
#[derive(Debug)]
pub(crate) enum Answer<T> {
    /// What the method answers.
    Done(T),
    /// What went wrong in the record.
    Failed(StateError),
    /// Why nothing was done.
    Refused(Refusal),
}

impl<T: Serialize> Answer<T> {
    /// Writes it.
    pub(crate) fn write(&self) -> Bytes {
        let written = match self {
            Self::Done(answer) => body("ok", answer),
            Self::Failed(error) => body("error", error),
            Self::Refused(refusal) => body("refused", refusal),
        };
        written.unwrap_or_else(|error| {
            let error = StateError::Corrupt(format!("the answer cannot be written: {error}"));
            body("error", &error).unwrap_or_default()
        })
    }
}

fn body(word: &str, value: &impl Serialize) -> Result<Bytes, serde_json::Error> {
    let mut frame = Vec::with_capacity(512);
    frame.extend_from_slice(VERSION);
    frame.push(b' ');
    frame.extend_from_slice(word.as_bytes());
    frame.push(b'\n');
    serde_json::to_writer(&mut frame, value)?;
    Ok(frame.into())
}

impl<T: DeserializeOwned> Answer<T> {
    /// Reads one; the error says what cannot be understood.
    pub(crate) fn read(frame: &[u8]) -> Result<Self, String> {
        let (line, body) = split(frame).ok_or("it has no first line")?;
        let read = |error: serde_json::Error| error.to_string();
        match line {
            b"1 ok" => serde_json::from_slice(body).map(Self::Done).map_err(read),
            b"1 error" => serde_json::from_slice(body).map(Self::Failed).map_err(read),
            b"1 refused" => serde_json::from_slice(body).map(Self::Refused).map_err(read),
            _ => Err(format!("it begins with {:?}", String::from_utf8_lossy(line.get(..40).unwrap_or(line)))),
        }
    }
}
