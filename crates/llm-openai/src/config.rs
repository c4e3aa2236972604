//! Where a server is, and how much of it we bear.

use std::time::Duration;

use llm_http::{ApiKey, Limits, ServerConfig, Words};

/// What the protocol's servers say when something is wrong: OpenAI itself, llama.cpp, vLLM and hosted providers.
pub(crate) const WORDS: Words = Words {
    too_long: &[
        "context_length_exceeded",
        "exceed_context_size",
        "maximum context length",
        "context window",
        "exceeds the available context size",
    ],
    no_money: &["insufficient_quota"],
    rate_limited: &["rate_limit"],
    refused: &["invalid_request", "invalid_prompt", "model_not_found"],
};

/// Where a server is, and how it is spoken with.
#[derive(Debug, Clone)]
pub struct OpenAiConfig {
    /// What its models are called before the slash.
    pub provider: String,
    /// Everything before `/chat/completions`, such as `https://api.openai.com/v1`.
    pub base_url: String,
    /// Sent as a bearer token.
    pub api_key: Option<ApiKey>,
    /// Sent with every request; the values are as secret as the key.
    pub headers: Vec<(String, ApiKey)>,
    /// How often a request is sent again when the server is busy or cannot be reached.
    pub max_retries: u32,
    /// The pause before the first repetition; it doubles each time, with some randomness.
    pub first_pause: Duration,
    /// How much an answer may bring.
    pub limits: Limits,
}

impl OpenAiConfig {
    /// A server without a key, and the usual patience.
    pub fn new(provider: impl Into<String>, base_url: impl Into<String>) -> Self {
        let usual = ServerConfig::new(provider, base_url);
        Self {
            provider: usual.provider,
            base_url: usual.base_url,
            api_key: None,
            headers: Vec::new(),
            max_retries: usual.max_retries,
            first_pause: usual.first_pause,
            limits: usual.limits,
        }
    }

    /// The same with a key.
    #[must_use]
    pub fn with_api_key(mut self, key: ApiKey) -> Self {
        self.api_key = Some(key);
        self
    }
}

impl From<OpenAiConfig> for ServerConfig {
    fn from(config: OpenAiConfig) -> Self {
        Self {
            provider: config.provider,
            base_url: config.base_url,
            bearer: config.api_key,
            headers: config.headers,
            secrets: Vec::new(),
            max_retries: config.max_retries,
            first_pause: config.first_pause,
            limits: config.limits,
        }
    }
}
