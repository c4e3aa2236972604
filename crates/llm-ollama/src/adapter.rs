//! One call: send, repeat while that is harmless, listen, and end in time.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use llm::{ChatAnswer, ChatModel, ChatRequest, DeltaSink, EmbedRequest, Embeddings, LlmError, PullSink};
use llm_http::{Asked, ConfigError, Failed, LONGEST_CALL, Lines, Server, Spoken, WireNames, Words, in_time};
use reqwest::Url;
use serde::Deserialize;
use tokio::time::Instant;

use crate::answer::{Assembly, Broken};
use crate::config::OllamaConfig;
use crate::request::{Thinking, body};

const LIST_TIMEOUT: Duration = Duration::from_secs(10);
const LIST_BYTES: usize = 4 * 1024 * 1024;

const WORDS: Words = Words {
    too_long: &["context length", "context window", "available context size", "exceeds maximum context"],
    no_money: &[],
    rate_limited: &[],
    refused: &[],
};

/// Speaks Ollama's own protocol with one server.
pub struct Ollama {
    server: Server,
    chat_url: Url,
    /// How models were found to be asked to think, so that they are asked rightly at once the next time.
    known: Mutex<BTreeMap<String, Thinking>>,
}

impl Ollama {
    /// Checks the configuration. The client should come from `http_client`: one that follows redirects carries the key away.
    pub fn new(config: OllamaConfig, http: reqwest::Client) -> Result<Self, ConfigError> {
        let server = Server::new(config.into_server_config(), WORDS, http)?;
        Ok(Self { chat_url: server.url("api/chat"), server, known: Mutex::default() })
    }

    /// Asks until there is an answer, or nothing more that can harmlessly be tried.
    async fn converse(
        &self,
        request: &ChatRequest,
        on_delta: &DeltaSink<'_>,
        deadline: Instant,
    ) -> Result<ChatAnswer, LlmError> {
        let asked = self.server.asked_to_chat(request);
        let spoken = Spoken::default();
        let on_delta = spoken.noting(on_delta);
        let mut retries = self.server.retries(deadline);
        let mut thinking = self.known().get(&request.model).copied().unwrap_or(Thinking::Degree);
        loop {
            let failed = match self.attempt(&asked, request, thinking, &on_delta).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            match thinking.without_what_is_named(failed.complaint(), request) {
                Some(less) => {
                    thinking = less;
                    self.known().insert(request.model.clone(), less);
                }
                None => retries.pause(failed, spoken.anything()).await?,
            }
        }
    }

    async fn attempt(
        &self,
        asked: &Asked<'_>,
        request: &ChatRequest,
        thinking: Thinking,
        on_delta: &DeltaSink<'_>,
    ) -> Result<ChatAnswer, Failed> {
        let names = WireNames::of(request);
        let body = body(request, &names, thinking).map_err(|error| asked.not_sendable(&error))?;
        let request_bytes = body.len();
        let response = asked.send(self.server.post(&self.chat_url, body)).await?;
        let limits = self.server.limits();
        let mut stream = asked.listen(response, Lines::new(limits.line_bytes), limits, request.idle_timeout).await?;
        let mut assembly = Assembly::new(limits.tool_calls);
        while let Some(line) = stream.next().await? {
            match assembly.take(&line, on_delta) {
                Ok(false) => stream.heard(),
                Ok(true) => {
                    stream.heard();
                    stream.ended();
                }
                Err(Broken::Flaw(flaw)) => return Err(asked.invalid(&flaw)),
                Err(Broken::Complaint(complaint)) => return Err(asked.broke_off(&complaint)),
            }
        }
        assembly.complete(&names, request_bytes).map_err(|flaw| asked.invalid(&flaw))
    }

    async fn ask_for_models(&self, asked: &Asked<'_>) -> Result<Vec<String>, Failed> {
        let response = asked.send(self.server.get(&self.server.url("api/tags"))).await?;
        let list = asked.read_json(response, LIST_BYTES, LIST_TIMEOUT).await?;
        let list: ModelList = serde_json::from_value(list).map_err(|_| asked.invalid(&"it gives no list of models"))?;
        let mut names: Vec<String> = list.models.into_iter().map(|model| model.name).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Repeats a call while that may help.
    async fn repeating<T, F>(&self, deadline: Instant, attempt: impl Fn() -> F + Send) -> Result<T, LlmError>
    where
        T: Send,
        F: Future<Output = Result<T, Failed>> + Send,
    {
        let mut retries = self.server.retries(deadline);
        loop {
            match attempt().await {
                Ok(answer) => return Ok(answer),
                Err(failed) => retries.pause(failed, false).await?,
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Thinking>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ChatModel for Ollama {
    async fn chat(&self, request: &ChatRequest, on_delta: &DeltaSink<'_>) -> Result<ChatAnswer, LlmError> {
        let limit = request.timeout.min(LONGEST_CALL);
        let call = self.converse(request, on_delta, Instant::now() + limit);
        let model = self.server.full_name(&request.model);
        llm::observed(self.server.provider(), request, in_time(&model, limit, call)).await
    }

    async fn embed(&self, request: &EmbedRequest) -> Result<Embeddings, LlmError> {
        let limit = request.timeout.min(LONGEST_CALL);
        let asked = self.server.asked(&request.model, request.texts.iter().map(String::as_str).collect());
        let call = self.repeating(Instant::now() + limit, || crate::embed::embed(&self.server, &asked, request));
        in_time(asked.model(), limit, call).await
    }

    async fn list(&self) -> Result<Vec<String>, LlmError> {
        let asked = self.server.asked("*", Vec::new());
        let listed = async { self.ask_for_models(&asked).await.map_err(|failed| failed.error) };
        in_time(asked.model(), LIST_TIMEOUT, listed).await
    }

    async fn pull(&self, model: &str, on_progress: &PullSink<'_>) -> Result<(), LlmError> {
        let asked = self.server.asked(model, Vec::new());
        crate::pull::pull(&self.server, &asked, model, on_progress).await.map_err(|failed| failed.error)
    }
}

impl fmt::Debug for Ollama {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ollama").field("server", &self.server).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct ModelList {
    models: Vec<ListedModel>,
}

#[derive(Deserialize)]
struct ListedModel {
    name: String,
}
