//! One call: send, repeat while that is harmless, listen, and end in time.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use llm::{ChatAnswer, ChatModel, ChatRequest, DeltaSink, LlmError};
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;
use tokio::time::{Instant, timeout, timeout_at};

use crate::answer::{Assembly, Flaw};
use crate::chunk::Chunk;
use crate::config::{ApiKey, ConfigError, Limits, OpenAiConfig};
use crate::failure::{Asked, Complaint, Failed};
use crate::request::{Features, body};
use crate::retry_after::retry_after;
use crate::sse::EventReader;

/// A server that asks for a longer pause is left to the task's own retry.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// However patient a request is.
const LONGEST_CALL: Duration = Duration::from_hours(24);
/// An answer that has ended needs nothing but its usage; that is not waited for any longer.
const AFTER_THE_END: Duration = Duration::from_secs(5);
const ERROR_BYTES: usize = 64 * 1024;
const MODELS_TIMEOUT: Duration = Duration::from_secs(10);
const MODELS_BYTES: usize = 4 * 1024 * 1024;

/// Speaks the chat completions protocol with one server.
pub struct OpenAi {
    provider: String,
    chat_url: Url,
    models_url: Url,
    headers: HeaderMap,
    secrets: Vec<ApiKey>,
    max_retries: u32,
    first_pause: Duration,
    limits: Limits,
    http: reqwest::Client,
}

impl OpenAi {
    /// Checks the configuration. The client should come from `http_client`: one that follows redirects carries the key away.
    pub fn new(config: OpenAiConfig, http: reqwest::Client) -> Result<Self, ConfigError> {
        Ok(Self {
            chat_url: config.endpoint("chat/completions")?,
            models_url: config.endpoint("models")?,
            headers: config.header_map()?,
            secrets: config.secrets(),
            provider: config.provider,
            max_retries: config.max_retries,
            first_pause: config.first_pause,
            limits: config.limits,
            http,
        })
    }

    /// The names of the server's models, sorted; asked once, without repetition.
    pub async fn list_models(&self) -> Result<Vec<String>, LlmError> {
        let asked = Asked {
            model: format!("{}/*", self.provider),
            secrets: &self.secrets,
            request: None,
            features: Features::ALL,
        };
        let listed = timeout(MODELS_TIMEOUT, self.ask_for_models(&asked)).await;
        listed.unwrap_or_else(|_| Err(asked.silent(MODELS_TIMEOUT))).map_err(|failed| failed.error)
    }

    async fn ask_for_models(&self, asked: &Asked<'_>) -> Result<Vec<String>, Failed> {
        let request = self.http.get(self.models_url.clone()).headers(self.headers.clone());
        let mut response = request.send().await.map_err(|error| asked.unreachable(error))?;
        if response.status() != StatusCode::OK {
            return Err(refusal(asked, response).await);
        }
        let not_a_list = || asked.invalid(&"it gives no list of models");
        let body = read_up_to(&mut response, MODELS_BYTES).await;
        let list: ModelList = serde_json::from_slice(&body).map_err(|_| not_a_list())?;
        let mut names: Vec<String> = list.data.into_iter().map(|model| model.id).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Asks until there is an answer, or nothing more that can harmlessly be tried.
    async fn converse(
        &self,
        request: &ChatRequest,
        on_delta: &DeltaSink<'_>,
        deadline: Instant,
    ) -> Result<ChatAnswer, LlmError> {
        let spoke = AtomicBool::new(false);
        let on_delta = |text: &str| {
            spoke.store(true, Ordering::Relaxed);
            on_delta(text);
        };
        let mut pauses = ExponentialBuilder::new()
            .with_min_delay(self.first_pause)
            .with_max_delay(LONGEST_PAUSE)
            .with_max_times(self.max_retries as usize)
            .with_jitter()
            .build();
        let mut features = Features::ALL;
        loop {
            let failed = match self.attempt(request, features, &on_delta).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            if let Some(fewer) = failed.with {
                features = fewer;
                continue;
            }
            if !failed.again || spoke.load(Ordering::Relaxed) {
                return Err(failed.error);
            }
            let asked_for = failed.error.retry_after().unwrap_or_default();
            let Some(pause) = pauses.next().map(|pause| pause.max(asked_for)) else { return Err(failed.error) };
            if asked_for > LONGEST_PAUSE || Instant::now() + pause >= deadline {
                return Err(failed.error);
            }
            tracing::debug!(error = %failed.error, pause_ms = pause.as_millis() as u64, "model call is repeated");
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(
        &self,
        request: &ChatRequest,
        features: Features,
        on_delta: &DeltaSink<'_>,
    ) -> Result<ChatAnswer, Failed> {
        let asked = Asked { model: self.full_name(request), secrets: &self.secrets, request: Some(request), features };
        let body = body(request, features).map_err(|_| asked.invalid(&"the request cannot be written as JSON"))?;
        let request_bytes = body.len();
        let sent = self.http.post(self.chat_url.clone()).headers(self.headers.clone()).body(Bytes::from(body)).send();
        let mut response = sent.await.map_err(|error| asked.unreachable(error))?;
        if response.status() != StatusCode::OK {
            return Err(refusal(&asked, response).await);
        }
        match content_type(&response).as_str() {
            "text/html" => Err(asked.invalid(&"a web page came instead of an answer; check the base URL")),
            "application/json" => {
                let body = read_up_to(&mut response, ERROR_BYTES).await;
                let document: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
                if document.get("error").is_some_and(|error| !error.is_null()) {
                    return Err(asked.broke_off(&Complaint::from_value(&document)));
                }
                Err(asked.invalid(&"a document came instead of a stream"))
            }
            _ => self.listen(&asked, response, request_bytes, request.idle_timeout, on_delta).await,
        }
    }

    /// Listens to the stream to its end.
    async fn listen(
        &self,
        asked: &Asked<'_>,
        mut response: Response,
        request_bytes: usize,
        idle: Duration,
        on_delta: &DeltaSink<'_>,
    ) -> Result<ChatAnswer, Failed> {
        let idle = idle.min(LONGEST_CALL);
        let mut reader = EventReader::new(self.limits.line_bytes);
        let mut assembly = Assembly::default();
        let mut events = Vec::new();
        let mut total = 0;
        // Comments and half events are no sign of the model: they do not count as heard.
        let mut heard: Option<Instant> = None;
        'stream: loop {
            let patience = if assembly.is_finished() { idle.min(AFTER_THE_END) } else { idle };
            let next = match heard {
                None => response.chunk().await,
                Some(at) => match timeout_at(at + patience, response.chunk()).await {
                    Ok(next) => next,
                    Err(_) if assembly.is_finished() => break,
                    Err(_) => return Err(asked.silent(idle)),
                },
            };
            let Some(bytes) = next.map_err(|_| asked.invalid(&"the connection broke in the middle of the answer"))?
            else {
                break;
            };
            total += bytes.len();
            if total > self.limits.answer_bytes {
                return Err(asked.invalid(&format!("the answer is longer than {} bytes", self.limits.answer_bytes)));
            }
            reader.push(&bytes, &mut events).map_err(|error| asked.invalid(&error))?;
            for data in events.drain(..) {
                if data.trim() == "[DONE]" {
                    // The end of the body lets the connection be used again; it has usually arrived by now.
                    let _ = timeout(Duration::from_millis(20), response.chunk()).await;
                    break 'stream;
                }
                // The parser's own message would repeat what the model said.
                let chunk: Chunk = serde_json::from_str(&data).map_err(|_| asked.invalid(&Flaw::NotAChunk))?;
                if let Some(error) = chunk.error.as_ref().filter(|error| !error.is_null()) {
                    return Err(asked.broke_off(&Complaint::from_value(error)));
                }
                assembly.take(chunk, self.limits.tool_calls, on_delta).map_err(|flaw| asked.invalid(&flaw))?;
                heard = Some(Instant::now());
            }
        }
        assembly.complete(request_bytes).map_err(|flaw| asked.invalid(&flaw))
    }

    fn full_name(&self, request: &ChatRequest) -> String {
        format!("{}/{}", self.provider, request.model)
    }
}

#[async_trait]
impl ChatModel for OpenAi {
    async fn chat(&self, request: &ChatRequest, on_delta: &DeltaSink<'_>) -> Result<ChatAnswer, LlmError> {
        llm::observed(&self.provider, request, async {
            let limit = request.timeout.min(LONGEST_CALL);
            let answer = timeout(limit, self.converse(request, on_delta, Instant::now() + limit)).await;
            answer.unwrap_or_else(|_| {
                Err(LlmError::Timeout { model: self.full_name(request), millis: limit.as_millis() as u64 })
            })
        })
        .await
    }
}

impl fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAi")
            .field("provider", &self.provider)
            .field("chat_url", &self.chat_url.as_str())
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct ModelList {
    data: Vec<ListedModel>,
}

#[derive(Deserialize)]
struct ListedModel {
    id: String,
}

/// What a response other than 200 means.
async fn refusal(asked: &Asked<'_>, mut response: Response) -> Failed {
    let status = response.status().as_u16();
    let after = retry_after(response.headers());
    let body = read_up_to(&mut response, ERROR_BYTES).await;
    asked.refused(status, after, &Complaint::parse(&body))
}

/// The beginning of a body; a body that breaks off ends there.
async fn read_up_to(response: &mut Response, limit: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(bytes)) = response.chunk().await {
        let room = limit - body.len();
        body.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if body.len() >= limit {
            break;
        }
    }
    body
}

fn content_type(response: &Response) -> String {
    let value = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
