//! What a server's complaints mean, and how much of them is repeated.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use domain::Message;
use llm::{ChatRequest, LlmError};
use serde_json::Value;

use crate::ApiKey;
use crate::request::Features;

const LONGEST_REASON: usize = 200;

/// A call that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: LlmError,
    /// The same request may go better a little later.
    pub(crate) again: bool,
    /// The same request may go better at once with these features.
    pub(crate) with: Option<Features>,
}

impl Failed {
    pub(crate) fn for_good(error: LlmError) -> Self {
        Self { error, again: false, with: None }
    }

    pub(crate) fn for_now(error: LlmError) -> Self {
        Self { error, again: true, with: None }
    }
}

/// What a server says about what went wrong.
#[derive(Debug, Default)]
pub(crate) struct Complaint {
    message: String,
    code: String,
    /// A status given in the body, for an error in the middle of a stream.
    status: Option<u16>,
}

impl Complaint {
    /// Reads the body of an error; servers agree on no form, so a few are known.
    pub(crate) fn parse(body: &[u8]) -> Self {
        serde_json::from_slice(body).map_or_else(|_| Self::default(), |body| Self::from_value(&body))
    }

    pub(crate) fn from_value(body: &Value) -> Self {
        let body = body.get(0).unwrap_or(body);
        let error = body.get("error").unwrap_or(body);
        let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let message = ["message", "detail", "error"].map(text).into_iter().find(|text| !text.is_empty());
        let message = message.or_else(|| error.as_str().map(str::to_owned)).unwrap_or_default();
        let code = format!("{} {}", text("code"), text("type"));
        let status = ["code", "status"].into_iter().find_map(|key| error.get(key)?.as_u64());
        Self { message, code, status: status.and_then(|status| u16::try_from(status).ok()) }
    }

    fn is_context_too_long(&self) -> bool {
        const MARKS: [&str; 5] = [
            "context_length_exceeded",
            "exceed_context_size",
            "maximum context length",
            "context window",
            "exceeds the available context size",
        ];
        let message = self.message.to_lowercase();
        MARKS.iter().any(|mark| self.code.contains(mark) || message.contains(mark))
    }
}

/// Who was asked what; needed to speak of a failure without telling secrets.
pub(crate) struct Asked<'a> {
    /// `provider/name`.
    pub(crate) model: String,
    pub(crate) secrets: &'a [ApiKey],
    pub(crate) request: Option<&'a ChatRequest>,
    pub(crate) features: Features,
}

impl Asked<'_> {
    /// What a status other than 200 means.
    pub(crate) fn refused(&self, status: u16, retry_after: Option<Duration>, complaint: &Complaint) -> Failed {
        let model = self.model.clone();
        let reason = self.reason(status, complaint);
        match status {
            // An account without money does not recover by waiting.
            429 if complaint.code.contains("insufficient_quota") => {
                Failed::for_good(LlmError::Refused { model, reason })
            }
            429 => Failed::for_now(LlmError::RateLimited { model, retry_after }),
            408 | 500 | 502 | 503 | 504 | 529 => Failed::for_now(LlmError::Unavailable { model, reason, retry_after }),
            501.. => Failed::for_good(LlmError::Unavailable { model, reason, retry_after }),
            200..=299 => self.invalid(&format!("an answer comes with HTTP 200, not {status}")),
            400 | 413 | 422 if status == 413 || complaint.is_context_too_long() => {
                Failed::for_good(LlmError::ContextTooLong { model })
            }
            400 | 422 => {
                let with =
                    self.request.and_then(|request| self.features.without_what_is_named(&complaint.message, request));
                Failed { error: LlmError::Refused { model, reason }, again: false, with }
            }
            _ => Failed::for_good(LlmError::Refused { model, reason }),
        }
    }

    /// What an error in the middle of a stream, or under status 200, means.
    pub(crate) fn broke_off(&self, complaint: &Complaint) -> Failed {
        let rate_limited = complaint.code.contains("rate_limit");
        let status = match complaint.status {
            Some(status @ 400..=599) => status,
            _ if rate_limited => 429,
            _ if complaint.is_context_too_long() => 400,
            _ => 500,
        };
        self.refused(status, None, complaint)
    }

    /// No connection, or one that broke before the answer began.
    pub(crate) fn unreachable(&self, error: reqwest::Error) -> Failed {
        let reason = match (error.is_connect(), innermost(&error.without_url())) {
            (true, cause) => format!("it cannot be reached: {cause}"),
            (false, cause) => format!("the connection broke: {cause}"),
        };
        let reason = self.clean(&reason).unwrap_or_else(|| "it cannot be reached".to_owned());
        Failed::for_now(LlmError::Unavailable { model: self.model.clone(), reason, retry_after: None })
    }

    pub(crate) fn invalid(&self, reason: &dyn fmt::Display) -> Failed {
        Failed::for_good(LlmError::Invalid { model: self.model.clone(), reason: reason.to_string() })
    }

    pub(crate) fn silent(&self, time: Duration) -> Failed {
        Failed::for_good(LlmError::Timeout { model: self.model.clone(), millis: time.as_millis() as u64 })
    }

    fn reason(&self, status: u16, complaint: &Complaint) -> String {
        let told = match status {
            300..=399 => Some("redirects are not followed; set the base URL to where it leads".to_owned()),
            // Servers like to repeat parts of the key here.
            401 => Some("the API key is missing or not accepted".to_owned()),
            _ => self.clean(&complaint.message),
        };
        told.map_or_else(|| format!("HTTP {status}"), |told| format!("HTTP {status}: {told}"))
    }

    /// A server's words, if they are short of secrets and of what was said to the model; cut, and without characters
    /// that would do something on a terminal.
    fn clean(&self, text: &str) -> Option<String> {
        let printable: String = text.chars().map(|letter| if is_plain(letter) { letter } else { ' ' }).collect();
        let short: String = printable.trim().chars().take(LONGEST_REASON).collect();
        let tells = self.secrets.iter().any(|secret| overlaps(text, secret.expose(), 8))
            || self
                .request
                .is_some_and(|request| request.messages.iter().any(|message| overlaps(text, words(message), 24)));
        if short.is_empty() || tells { None } else { Some(short) }
    }
}

/// Tells whether the texts share so many bytes in a row; a shorter secret must be contained as a whole.
fn overlaps(text: &str, secret: &str, bytes: usize) -> bool {
    let length = bytes.min(secret.len());
    if length == 0 {
        return false;
    }
    // What lies far behind the part that is shown is of no interest.
    let text = &text.as_bytes()[..text.len().min(4 * LONGEST_REASON + bytes)];
    let parts: HashSet<&[u8]> = text.windows(length).collect();
    secret.as_bytes().windows(length).any(|part| parts.contains(part))
}

fn words(message: &Message) -> &str {
    match message {
        Message::System { text }
        | Message::User { text, .. }
        | Message::Assistant { text, .. }
        | Message::Tool { text, .. } => text,
    }
}

fn is_plain(letter: char) -> bool {
    let formatting = matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..='\u{e0fff}');
    !letter.is_control() && !formatting
}

/// The root of an error: the part that says what happened, without addresses.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
