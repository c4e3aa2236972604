//! Providers behind HTTP, to the last byte.

mod cuts;
mod excess;
mod garbage;
mod meaning;
mod statuses;
mod vectors;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::{Message, ToolSpec};
use serde_json::{Value, json};

use crate::{ChatAnswer, ChatModel, ChatRequest, LlmError};

pub use cuts::cuts;
pub use excess::excess;
pub use garbage::garbage;
pub use meaning::meaning;
pub use statuses::statuses;
pub use vectors::vectors;

/// A dialect under test.
#[async_trait]
pub trait Wired: Send + Sync {
    /// Starts a server, and makes a model that speaks with it: with `KEY` as its key, with the usual limits, and with at most
    /// five repetitions that begin with pauses of a few milliseconds.
    async fn connect(&self) -> Connected;

    /// An answer as the protocol streams it. `None` when the protocol cannot say it.
    fn record(&self, told: &Told) -> Option<Recording>;

    /// An error of this status with these words, in the protocol's form.
    fn error(&self, status: u16, words: &str) -> HttpReply;

    /// The answer to a request for vectors, which are lists of numbers or what a broken server takes for them; the entry that
    /// stands first comes last if the protocol numbers them. `None` when the protocol has no embeddings.
    fn vectors(&self, _vectors: &[Value]) -> Option<HttpReply> {
        None
    }

    /// Tells whether a request says how much a model may think.
    fn knows_effort(&self) -> bool {
        true
    }

    /// Tells whether the protocol itself shows that a stream has a frame twice, wherever that is.
    fn notices_repeated_frames(&self) -> bool {
        false
    }
}

/// The key of the model under test. No error shows a part of it.
pub const KEY: &str = "key-canary-0123456789";

/// A model, and the server that it speaks with.
pub struct Connected {
    /// The model.
    pub model: Arc<dyn ChatModel>,
    /// Its name within its provider.
    pub name: String,
    /// The server; it lives as long as this.
    pub server: Box<dyn Server>,
}

/// A server that replies what it is told.
pub trait Server: Send + Sync {
    /// Replies this to the next request that is not for a list of models; replies before it come first.
    fn push(&self, reply: HttpReply);

    /// Replies this to every request for which nothing was pushed.
    fn otherwise(&self, reply: HttpReply);

    /// The requests so far.
    fn seen(&self) -> Vec<Seen>;
}

/// A request that a server got.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its path, with the query.
    pub path: String,
    /// Its body; null when there was none or it was not JSON.
    pub body: Value,
}

/// What a server replies, to the byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpReply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// How it ends.
    pub end: HttpEnd,
}

/// How a reply ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpEnd {
    /// As it should.
    Proper,
    /// The connection breaks after so many bytes of the body.
    Broken(usize),
    /// Nothing more comes after so many bytes of the body, and the connection stays.
    Silent(usize),
    /// The connection is closed instead of a reply.
    Refused,
}

impl HttpReply {
    /// A body under a status and a content type.
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body: body.into(),
            end: HttpEnd::Proper,
        }
    }

    /// The same with a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with another end.
    #[must_use]
    pub fn ending(mut self, end: HttpEnd) -> Self {
        self.end = end;
        self
    }
}

/// What a model is to have answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// What it thought, aloud or in summary.
    pub thought: Option<String>,
    /// What the provider wants back, word for word: a signature, or sealed thoughts.
    pub seal: Option<String>,
    /// What it said; nothing when empty.
    pub text: String,
    /// The tools that it asked for: ids, names as the protocol has them, arguments in JSON. Arguments come in pieces where
    /// the protocol has them in pieces.
    pub calls: Vec<(String, String, String)>,
    /// What it read, cached tokens included; not told when null.
    pub input_tokens: Value,
    /// What it wrote; not told when null.
    pub output_tokens: Value,
    /// What of it came from the cache, when that is told.
    pub cached_tokens: Option<u64>,
}

impl Told {
    /// Words.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            thought: None,
            seal: None,
            text: text.into(),
            calls: Vec::new(),
            input_tokens: json!(12),
            output_tokens: json!(5),
            cached_tokens: None,
        }
    }

    /// A call of a tool.
    pub fn call(id: &str, name: &str, arguments: &Value) -> Self {
        Self { calls: vec![(id.to_owned(), name.to_owned(), arguments.to_string())], ..Self::text("") }
    }
}

/// An answer as a protocol streams it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// The content type of the stream.
    pub content_type: String,
    /// The frames, each with all that belongs to it.
    pub frames: Vec<Vec<u8>>,
    /// Which of the frames says why the answer ended: without the whole of it there is no answer.
    pub end: usize,
}

impl Recording {
    fn bytes(&self) -> Vec<u8> {
        self.frames.concat()
    }

    fn reply(&self) -> HttpReply {
        HttpReply::new(200, &self.content_type, self.bytes())
    }

    /// Bytes before which there is no answer.
    fn whole_at(&self) -> usize {
        self.frames[..=self.end].iter().map(Vec::len).sum()
    }

    fn with(&self, frames: &[Vec<u8>]) -> HttpReply {
        HttpReply::new(200, &self.content_type, frames.concat())
    }
}

/// No reply may keep a model busy for longer; the times asked for in requests are far shorter.
const AT_MOST: Duration = Duration::from_secs(30);
const PROMPT: &str = "The diagnosis-canary of my aunt is nobody's business.";

async fn ask(connected: &Connected, request: &ChatRequest) -> (Vec<String>, Result<ChatAnswer, LlmError>) {
    let deltas = Mutex::new(Vec::new());
    let on_delta = |text: &str| deltas.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
    let answer = tokio::time::timeout(AT_MOST, connected.model.chat(request, &on_delta)).await;
    let Ok(answer) = answer else { panic!("the model did not end within {AT_MOST:?}") };
    if let Err(error) = &answer {
        tells_nothing(error);
    }
    (deltas.into_inner().unwrap_or_else(PoisonError::into_inner), answer)
}

/// Errors carry neither the key nor the conversation.
fn tells_nothing(error: &LlmError) {
    let printed = format!("{error} {error:?}");
    assert!(!printed.contains("canary"), "an error tells a secret: {printed}");
}

fn request(connected: &Connected) -> ChatRequest {
    ChatRequest {
        model: connected.name.clone(),
        messages: vec![Message::user(PROMPT)],
        tools: ["lookup", "files.read"].map(tool).into(),
        output_schema: None,
        temperature: None,
        max_output_tokens: Some(500),
        effort: None,
        timeout: Duration::from_secs(20),
        idle_timeout: Duration::from_secs(10),
    }
}

fn tool(name: &str) -> ToolSpec {
    let parameters = json!({ "type": "object", "properties": { "city": { "type": "string" } } });
    ToolSpec::new(name, "Looks something up.", parameters, Duration::from_secs(1))
}
