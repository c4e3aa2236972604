//! Responses: the protocol that keeps a model's reasoning. Nothing is stored at the provider: the whole conversation is
//! sent each time, with the model's thoughts sealed as the provider gave them.

mod answer;
mod event;
mod places;
mod request;

use async_trait::async_trait;
use llm::{ChatAnswer, ChatModel, ChatRequest, DeltaSink, EmbedRequest, Embeddings, LlmError};
use llm_http::{Asked, Complaint, ConfigError, Events, Failed, Flaw, LONGEST_CALL, Server, Spoken, WireNames, in_time};
use reqwest::Url;
use serde_json::Value;
use tokio::time::Instant;

use crate::config::{OpenAiConfig, WORDS};
use crate::embeddings::embed;
use crate::features::LeftOut;
use crate::models::list_models;
use answer::Assembly;
use event::Event;
use places::Places;
use request::{FEATURES, body};

/// Speaks the responses protocol with one server.
#[derive(Debug)]
pub struct Responses {
    server: Server,
    url: Url,
}

impl Responses {
    /// Checks the configuration. The client should come from `http_client`: one that follows redirects carries the key away.
    pub fn new(config: OpenAiConfig, http: reqwest::Client) -> Result<Self, ConfigError> {
        let server = Server::new(config.into(), WORDS, http)?;
        Ok(Self { url: server.url("responses"), server })
    }

    /// Asks until there is an answer, or nothing more that can harmlessly be tried.
    async fn converse(
        &self,
        request: &ChatRequest,
        on_delta: &DeltaSink<'_>,
        deadline: Instant,
    ) -> Result<ChatAnswer, LlmError> {
        let asked = self.server.asked_to_chat(request);
        let names = WireNames::of(request);
        let spoken = Spoken::default();
        let on_delta = spoken.noting(on_delta);
        let mut retries = self.server.retries(deadline);
        let mut left_out = LeftOut::default();
        loop {
            let failed = match self.attempt(&asked, request, &names, &left_out, &on_delta).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            if !left_out.learn(failed.complaint(), &FEATURES, request) {
                retries.pause(failed, spoken.anything()).await?;
            }
        }
    }

    async fn attempt(
        &self,
        asked: &Asked<'_>,
        request: &ChatRequest,
        names: &WireNames,
        left_out: &LeftOut,
        on_delta: &DeltaSink<'_>,
    ) -> Result<ChatAnswer, Failed> {
        let body = body(request, names, left_out).map_err(|error| asked.not_sendable(&error))?;
        let request_bytes = body.len();
        let limits = self.server.limits();
        let response = asked.send(self.server.post(&self.url, body)).await?;
        let mut stream = asked.listen(response, Events::new(limits.line_bytes), limits, request.idle_timeout).await?;
        let mut assembly = Assembly::new(limits.tool_calls);
        let mut places = Places::default();
        while let Some(event) = stream.next().await? {
            if event.data.trim() == "[DONE]" {
                stream.finish().await;
                break;
            }
            // The parser's own message would repeat what the model said.
            let not_a_chunk = |_| asked.invalid(&Flaw::NotAChunk);
            let mut event: Value = serde_json::from_str(&event.data).map_err(not_a_chunk)?;
            places.fill(&mut event);
            let event: Event = serde_json::from_value(event).map_err(not_a_chunk)?;
            if let Some(error) = event.complaint() {
                return Err(asked.broke_off(&Complaint::from_value(&error)));
            }
            let is_sign = event.is_sign_of_the_model();
            assembly.take(event, on_delta).map_err(|flaw| asked.invalid(&flaw))?;
            if is_sign {
                stream.heard();
            }
            if assembly.is_ended() {
                stream.ended();
            }
        }
        assembly.complete(names, request_bytes).map_err(|flaw| asked.invalid(&flaw))
    }
}

#[async_trait]
impl ChatModel for Responses {
    async fn chat(&self, request: &ChatRequest, on_delta: &DeltaSink<'_>) -> Result<ChatAnswer, LlmError> {
        let limit = request.timeout.min(LONGEST_CALL);
        let call = self.converse(request, on_delta, Instant::now() + limit);
        llm::observed(self.server.provider(), request, in_time(&self.server.full_name(&request.model), limit, call))
            .await
    }

    async fn embed(&self, request: &EmbedRequest) -> Result<Embeddings, LlmError> {
        embed(&self.server, request).await
    }

    async fn list(&self) -> Result<Vec<String>, LlmError> {
        list_models(&self.server).await
    }
}
