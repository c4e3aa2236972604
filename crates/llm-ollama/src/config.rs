//! Where a server is, and how it is spoken with.

use std::time::Duration;

use llm_http::{ApiKey, Limits, ServerConfig};

/// Where Ollama listens when nobody told it otherwise.
pub const OLLAMA_BASE_URL: &str = "http://localhost:11434";

/// Where a server is, and how it is spoken with.
#[derive(Debug, Clone)]
pub struct OllamaConfig {
    /// What its models are called before the slash.
    pub provider: String,
    /// Everything before `/api/chat`.
    pub base_url: String,
    /// Sent as a bearer token; Ollama itself needs none.
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

impl OllamaConfig {
    /// A server without a key, and the usual patience.
    pub fn new(provider: impl Into<String>, base_url: impl Into<String>) -> Self {
        let ServerConfig { provider, base_url, headers, max_retries, first_pause, limits, .. } =
            ServerConfig::new(provider, base_url);
        Self { provider, base_url, api_key: None, headers, max_retries, first_pause, limits }
    }

    /// The same with a key.
    #[must_use]
    pub fn with_api_key(mut self, key: ApiKey) -> Self {
        self.api_key = Some(key);
        self
    }

    pub(crate) fn into_server_config(self) -> ServerConfig {
        ServerConfig {
            bearer: self.api_key,
            headers: self.headers,
            max_retries: self.max_retries,
            first_pause: self.first_pause,
            limits: self.limits,
            ..ServerConfig::new(self.provider, self.base_url)
        }
    }
}
