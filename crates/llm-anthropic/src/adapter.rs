//! One call: send, repeat while that is harmless, listen, and end in time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use llm::{ChatAnswer, ChatModel, ChatRequest, DeltaSink, LlmError};
use llm_http::{Asked, ConfigError, Events, Failed, LONGEST_CALL, Server, Spoken, WireNames, Words, in_time};
use reqwest::Url;
use serde::Deserialize;
use tokio::time::Instant;

use crate::answer::{Assembly, Broken, Sign};
use crate::config::AnthropicConfig;
use crate::request::{Features, body};

const LIST_TIMEOUT: Duration = Duration::from_secs(10);
const LIST_BYTES: usize = 4 * 1024 * 1024;
/// No provider has more models than fit on so many pages of a thousand.
const LIST_PAGES: usize = 10;

const WORDS: Words = Words {
    too_long: &["prompt is too long", "exceed context limit", "context window", "request_too_large"],
    no_money: &[],
    rate_limited: &["rate_limit_error"],
    refused: &["authentication_error", "billing_error", "invalid_request_error", "not_found_error", "permission_error"],
};

/// Speaks the Messages protocol with one server.
pub struct Anthropic {
    server: Server,
    messages_url: Url,
    /// What models were found not to know, so that they are asked rightly at once the next time.
    known: Mutex<BTreeMap<String, Features>>,
}

impl Anthropic {
    /// Checks the configuration. The client should come from `http_client`: one that follows redirects carries the key away.
    pub fn new(config: AnthropicConfig, http: reqwest::Client) -> Result<Self, ConfigError> {
        let server = Server::new(config.into_server_config(), WORDS, http)?;
        Ok(Self { messages_url: server.url("v1/messages"), server, known: Mutex::default() })
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
        let mut features = self.known().get(&request.model).copied().unwrap_or(Features::ALL);
        loop {
            let failed = match self.attempt(&asked, request, features, &on_delta).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            match features.without_what_is_named(failed.complaint(), request) {
                Some(fewer) => {
                    features = fewer;
                    if let Some(lasting) = fewer.of_the_model() {
                        self.known().insert(request.model.clone(), lasting);
                    }
                }
                None => retries.pause(failed, spoken.anything()).await?,
            }
        }
    }

    async fn attempt(
        &self,
        asked: &Asked<'_>,
        request: &ChatRequest,
        features: Features,
        on_delta: &DeltaSink<'_>,
    ) -> Result<ChatAnswer, Failed> {
        let names = WireNames::of(request);
        let body = body(request, &names, features).map_err(|error| asked.not_sendable(&error))?;
        let request_bytes = body.len();
        let response = asked.send(self.server.post(&self.messages_url, body)).await?;
        let limits = self.server.limits();
        let mut stream = asked.listen(response, Events::new(limits.line_bytes), limits, request.idle_timeout).await?;
        let mut assembly = Assembly::new(limits.tool_calls);
        while let Some(event) = stream.next().await? {
            match assembly.take(&event.data, on_delta) {
                Ok(Sign::Heard) => stream.heard(),
                Ok(Sign::Nothing) => {}
                Ok(Sign::Stop) => {
                    stream.finish().await;
                    break;
                }
                Err(Broken::Flaw(flaw)) => return Err(asked.invalid(&flaw)),
                Err(Broken::Complaint(complaint)) => return Err(asked.broke_off(&complaint)),
            }
        }
        assembly.complete(&names, request_bytes).map_err(|flaw| asked.invalid(&flaw))
    }

    async fn ask_for_models(&self, asked: &Asked<'_>) -> Result<Vec<String>, Failed> {
        let mut names = Vec::new();
        let mut url = self.server.url("v1/models");
        url.set_query(Some("limit=1000"));
        for _ in 0..LIST_PAGES {
            let response = asked.send(self.server.get(&url)).await?;
            let page = asked.read_json(response, LIST_BYTES, LIST_TIMEOUT).await?;
            let page: ModelPage =
                serde_json::from_value(page).map_err(|_| asked.invalid(&"it gives no list of models"))?;
            names.extend(page.data.into_iter().map(|model| model.id));
            let Some(last) = page.last_id.filter(|_| page.has_more) else { break };
            url.query_pairs_mut().clear().append_pair("limit", "1000").append_pair("after_id", &last);
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Features>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ChatModel for Anthropic {
    async fn chat(&self, request: &ChatRequest, on_delta: &DeltaSink<'_>) -> Result<ChatAnswer, LlmError> {
        let limit = request.timeout.min(LONGEST_CALL);
        let call = self.converse(request, on_delta, Instant::now() + limit);
        let model = self.server.full_name(&request.model);
        llm::observed(self.server.provider(), request, in_time(&model, limit, call)).await
    }

    async fn list(&self) -> Result<Vec<String>, LlmError> {
        let asked = self.server.asked("*", Vec::new());
        let listed = async { self.ask_for_models(&asked).await.map_err(|failed| failed.error) };
        in_time(asked.model(), LIST_TIMEOUT, listed).await
    }
}

impl fmt::Debug for Anthropic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Anthropic").field("server", &self.server).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct ModelPage {
    data: Vec<ListedModel>,
    #[serde(default)]
    has_more: bool,
    #[serde(default)]
    last_id: Option<String>,
}

#[derive(Deserialize)]
struct ListedModel {
    id: String,
}
