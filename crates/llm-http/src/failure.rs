//! What a server's complaints mean, and how much of them is repeated.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use llm::LlmError;
use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::Value;

use crate::listening::{Listening, content_type, read_up_to};
use crate::{ApiKey, Framing, Limits, retry_after};

const LONGEST_REASON: usize = 200;
/// Shorter words are in too many sentences for their presence to tell anything.
const SHORTEST_PRIVATE: usize = 6;
const ERROR_BYTES: usize = 64 * 1024;

/// A call that failed.
pub struct Failed {
    /// Why.
    pub error: LlmError,
    /// The same request may go better a little later.
    pub again: bool,
    complaint: String,
}

impl Failed {
    /// A failure that no repetition mends.
    pub fn for_good(error: LlmError) -> Self {
        Self { error, again: false, complaint: String::new() }
    }

    /// A failure that may pass.
    pub fn for_now(error: LlmError) -> Self {
        Self { error, again: true, complaint: String::new() }
    }

    /// The server's own words about a request that it does not understand, in which a dialect may find the name of a
    /// feature to leave out. They may repeat what was said to the model: they are for reading, not for showing.
    pub fn complaint(&self) -> &str {
        &self.complaint
    }
}

impl fmt::Debug for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failed").field("error", &self.error).field("again", &self.again).finish_non_exhaustive()
    }
}

/// The words by which a dialect's complaints are known. They are looked for in codes, and in messages in lower case.
#[derive(Debug, Clone, Copy, Default)]
pub struct Words {
    /// The conversation does not fit.
    pub too_long: &'static [&'static str],
    /// Under 429, but no waiting helps, such as an account without money. Codes only.
    pub no_money: &'static [&'static str],
    /// Too many requests, in the middle of a stream. Codes only.
    pub rate_limited: &'static [&'static str],
    /// Refused for good, in the middle of a stream: credentials, an unknown model, a bad request. Codes only.
    pub refused: &'static [&'static str],
}

/// What a server says about what went wrong.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// In words. They may repeat what was said to the model.
    pub message: String,
    /// Codes and kinds, with spaces between them.
    pub code: String,
    /// A status given in the body, for an error in the middle of a stream.
    pub status: Option<u16>,
}

impl Complaint {
    /// Reads the body of an error; servers agree on no form, so a few are known.
    pub fn parse(body: &[u8]) -> Self {
        serde_json::from_slice(body).map_or_else(|_| Self::default(), |body| Self::from_value(&body))
    }

    /// The same of JSON that was read already.
    pub fn from_value(body: &Value) -> Self {
        let body = body.get(0).unwrap_or(body);
        let error = body.get("error").filter(|error| !error.is_null()).unwrap_or(body);
        let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let message = ["message", "detail", "error"].map(text).into_iter().find(|text| !text.is_empty());
        let message = message.or_else(|| error.as_str().map(str::to_owned)).unwrap_or_default();
        let code = format!("{} {}", text("code"), text("type"));
        let status = ["code", "status"].into_iter().find_map(|key| error.get(key)?.as_u64());
        Self { message, code, status: status.and_then(|status| u16::try_from(status).ok()) }
    }

    fn is_too_long(&self, words: Words) -> bool {
        let message = self.message.to_lowercase();
        words.too_long.iter().any(|mark| self.code.contains(mark) || message.contains(mark))
    }

    fn has_code(&self, codes: &[&str]) -> bool {
        codes.iter().any(|code| self.code.contains(code))
    }
}

/// Who was asked what; needed to speak of a failure without telling secrets.
pub struct Asked<'a> {
    model: String,
    secrets: &'a [ApiKey],
    words: Words,
    private: Vec<&'a str>,
}

impl<'a> Asked<'a> {
    pub(crate) fn new(model: String, secrets: &'a [ApiKey], words: Words, private: Vec<&'a str>) -> Self {
        Self { model, secrets, words, private }
    }

    /// `provider/name`.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Sends a request; whatever is not answered with 200 is a failure.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, Failed> {
        let response = self.exchange(request).await?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let after = retry_after(response.headers());
        let (_, body) = self.error_body(response).await;
        Err(self.refused(status, after, &Complaint::parse(&body)))
    }

    /// Sends a request; any status is an answer.
    pub async fn exchange(&self, request: RequestBuilder) -> Result<Response, Failed> {
        request.send().await.map_err(|error| self.unreachable(error))
    }

    /// The headers and the beginning of the body of an error, for a dialect that tells its code in a header.
    pub async fn error_body(&self, mut response: Response) -> (HeaderMap, Vec<u8>) {
        let body = read_up_to(&mut response, ERROR_BYTES).await;
        (response.headers().clone(), body)
    }

    /// Reads a JSON document of at most so many bytes, whose pieces come at most `idle` apart.
    pub async fn read_json(&self, mut response: Response, limit: usize, idle: Duration) -> Result<Value, Failed> {
        self.not_a_page(&response)?;
        let mut body = Vec::new();
        loop {
            let next = tokio::time::timeout(idle, response.chunk()).await.map_err(|_| self.silent(idle))?;
            let next = next.map_err(|_| self.invalid(&"the connection broke in the middle of the answer"))?;
            let Some(bytes) = next else { break };
            if body.len() + bytes.len() > limit {
                return Err(self.invalid(&format!("the answer is longer than {limit} bytes")));
            }
            body.extend_from_slice(&bytes);
        }
        // The parser's own message would repeat what the server said.
        serde_json::from_slice(&body).map_err(|_| self.invalid(&"the answer is not JSON"))
    }

    /// Begins to listen to the stream of an answer. A web page or a JSON document instead of a stream is a failure; a dialect
    /// whose streams are `application/json` calls `Listening::new` itself.
    pub async fn listen<F: Framing>(
        &'a self,
        mut response: Response,
        framing: F,
        limits: Limits,
        idle: Duration,
    ) -> Result<Listening<'a, F>, Failed> {
        self.not_a_page(&response)?;
        if content_type(&response) == "application/json" {
            let body = read_up_to(&mut response, ERROR_BYTES).await;
            let document: Value = serde_json::from_slice(&body).unwrap_or_default();
            if document.get("error").is_some_and(|error| !error.is_null()) {
                return Err(self.broke_off(&Complaint::from_value(&document)));
            }
            return Err(self.invalid(&"a document came instead of a stream"));
        }
        Ok(Listening::new(self, response, framing, limits, idle))
    }

    /// Refuses a web page, which a captive portal or a wrong address gives with status 200.
    pub fn not_a_page(&self, response: &Response) -> Result<(), Failed> {
        if content_type(response) == "text/html" {
            return Err(self.invalid(&"a web page came instead of an answer; check the base URL"));
        }
        Ok(())
    }

    /// What a status other than 200 means.
    pub fn refused(&self, status: u16, retry_after: Option<Duration>, complaint: &Complaint) -> Failed {
        let model = self.model.clone();
        let reason = self.reason(status, complaint);
        match status {
            429 if complaint.has_code(self.words.no_money) => Failed::for_good(LlmError::Refused { model, reason }),
            429 => Failed::for_now(LlmError::RateLimited { model, retry_after }),
            408 | 500 | 502 | 503 | 504 | 529 => Failed::for_now(LlmError::Unavailable { model, reason, retry_after }),
            501.. => Failed::for_good(LlmError::Unavailable { model, reason, retry_after }),
            200..=299 => self.invalid(&format!("an answer comes with HTTP 200, not {status}")),
            400 | 413 | 422 if status == 413 || complaint.is_too_long(self.words) => {
                Failed::for_good(LlmError::ContextTooLong { model })
            }
            400 | 422 => {
                let complaint = complaint.message.clone();
                Failed { error: LlmError::Refused { model, reason }, again: false, complaint }
            }
            _ => Failed::for_good(LlmError::Refused { model, reason }),
        }
    }

    /// What an error in the middle of a stream, or under status 200, means.
    pub fn broke_off(&self, complaint: &Complaint) -> Failed {
        let status = match complaint.status {
            Some(status @ 400..=599) => status,
            _ if complaint.has_code(self.words.no_money) || complaint.has_code(self.words.rate_limited) => 429,
            _ if complaint.is_too_long(self.words) || complaint.has_code(self.words.refused) => 400,
            _ => 500,
        };
        self.refused(status, None, complaint)
    }

    /// No connection, or one that broke before the answer began.
    pub fn unreachable(&self, error: reqwest::Error) -> Failed {
        let reason = match (error.is_connect(), innermost(&error.without_url())) {
            (true, cause) => format!("it cannot be reached: {cause}"),
            (false, cause) => format!("the connection broke: {cause}"),
        };
        let reason = self.clean(&reason).unwrap_or_else(|| "it cannot be reached".to_owned());
        Failed::for_now(LlmError::Unavailable { model: self.model.clone(), reason, retry_after: None })
    }

    /// An answer that is not accepted. The reason must not repeat what the server said.
    pub fn invalid(&self, reason: &dyn fmt::Display) -> Failed {
        Failed::for_good(LlmError::Invalid { model: self.model.clone(), reason: reason.to_string() })
    }

    /// A request that is not even sent, because the dialect cannot carry it.
    pub fn not_sendable(&self, reason: &dyn fmt::Display) -> Failed {
        Failed::for_good(LlmError::Refused { model: self.model.clone(), reason: reason.to_string() })
    }

    /// Silence for so long.
    pub fn silent(&self, time: Duration) -> Failed {
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
    pub fn clean(&self, text: &str) -> Option<String> {
        let printable: String = text.chars().map(|letter| if is_plain(letter) { letter } else { ' ' }).collect();
        let short: String = printable.trim().chars().take(LONGEST_REASON).collect();
        let tells = self.secrets.iter().any(|secret| overlaps(text, secret.expose(), 8))
            || self.private.iter().any(|said| said.len() >= SHORTEST_PRIVATE && overlaps(text, said, 24));
        if short.is_empty() || tells { None } else { Some(short) }
    }
}

impl fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("model", &self.model).finish_non_exhaustive()
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

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: Words =
        Words { too_long: &["too long"], no_money: &["no_money"], rate_limited: &["slow"], refused: &["bad_request"] };

    fn asked(secrets: &[ApiKey]) -> Asked<'_> {
        Asked::new("x/y".to_owned(), secrets, WORDS, vec!["hi", "the diagnosis of my aunt is nobody's business"])
    }

    fn complaint(body: &str) -> Complaint {
        Complaint::parse(body.as_bytes())
    }

    #[test]
    fn the_usual_forms_of_an_error_are_understood() {
        for body in [
            r#"{"error": {"message": "no such thing", "code": "a", "type": "b"}}"#,
            r#"{"type": "error", "error": {"type": "b", "code": "a", "message": "no such thing"}}"#,
            r#"{"message": "no such thing", "code": "a", "type": "b"}"#,
            r#"[{"error": {"message": "no such thing", "code": "a", "type": "b"}}]"#,
        ] {
            let read = complaint(body);
            assert_eq!((read.message.as_str(), read.code.as_str()), ("no such thing", "a b"), "{body}");
        }
        assert_eq!(complaint(r#"{"error": "no such thing"}"#).message, "no such thing");
        assert_eq!(complaint(r#"{"detail": "no such thing"}"#).message, "no such thing");
        assert_eq!(complaint("<html>"), Complaint::default());
    }

    #[test]
    fn an_error_in_the_middle_of_a_stream_means_what_its_words_say() {
        let asked = asked(&[]);
        let kind = |body: &str| asked.broke_off(&complaint(body)).error.kind().as_str();
        assert_eq!(kind(r#"{"error": {"type": "slow_down"}}"#), "rate_limited");
        assert_eq!(kind(r#"{"error": {"type": "no_money"}}"#), "model_refused");
        assert_eq!(kind(r#"{"error": {"type": "bad_request"}}"#), "model_refused");
        assert_eq!(kind(r#"{"error": {"message": "it is Too Long"}}"#), "context_too_long");
        assert_eq!(kind(r#"{"error": {"code": 429}}"#), "rate_limited");
        assert_eq!(kind(r#"{"error": {}}"#), "model_unavailable");
        assert_eq!(kind("null"), "model_unavailable");
    }

    #[test]
    fn words_are_shown_only_without_secrets_and_without_what_was_said() {
        let secrets = [ApiKey::new("sk-0123456789"), ApiKey::new("abc")];
        let asked = asked(&secrets);
        assert_eq!(asked.clean(" this\u{1b}[1m is wrong\n").as_deref(), Some("this [1m is wrong"));
        assert_eq!(asked.clean(&"é".repeat(500)).map(|text| text.chars().count()), Some(LONGEST_REASON));
        for text in
            ["key sk-0123456789", "key 01234567 is old", "xabcx", "my aunt is nobody's business, it says", "\u{200b}"]
        {
            assert_eq!(asked.clean(text), None, "{text}");
        }
    }

    #[test]
    fn a_complaint_about_a_request_is_for_reading_not_for_printing() {
        let failed = asked(&[]).refused(400, None, &complaint(r#"{"error": "the diagnosis of my aunt is nobody's"}"#));
        assert!(failed.complaint().contains("diagnosis"));
        assert!(!format!("{failed:?}").contains("diagnosis"), "{failed:?}");
        assert!(!failed.again);
    }
}
