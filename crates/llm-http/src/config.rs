//! Where a server is, and how much of it we bear.

use std::fmt;
use std::time::Duration;

/// A secret that does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// Takes a key; white space around it, such as the line end of a file, is no part of it.
    pub fn new(key: impl AsRef<str>) -> Self {
        Self(key.as_ref().trim().to_owned())
    }

    /// The key itself, to be sent or to sign with; never to be shown.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Where a server is, and how it is spoken with.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// What its models are called before the slash.
    pub provider: String,
    /// Everything before the path of an endpoint, such as `https://models.example/v1`.
    pub base_url: String,
    /// Sent as a bearer token.
    pub bearer: Option<ApiKey>,
    /// Sent with every request; the values are as secret as a key.
    pub headers: Vec<(String, ApiKey)>,
    /// What is not sent, but must not be shown either, such as a key that signs.
    pub secrets: Vec<ApiKey>,
    /// How often a request is sent again when the server is busy or cannot be reached.
    pub max_retries: u32,
    /// The pause before the first repetition; it doubles each time, with some randomness.
    pub first_pause: Duration,
    /// How much an answer may bring.
    pub limits: Limits,
}

impl ServerConfig {
    /// A server without a key, and the usual patience.
    pub fn new(provider: impl Into<String>, base_url: impl Into<String>) -> Self {
        Self {
            provider: provider.into(),
            base_url: base_url.into(),
            bearer: None,
            headers: Vec::new(),
            secrets: Vec::new(),
            max_retries: 3,
            first_pause: Duration::from_millis(500),
            limits: Limits::default(),
        }
    }
}

/// How much an answer may bring before it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole stream.
    pub answer_bytes: usize,
    /// Bytes of one line, or frame, of the stream.
    pub line_bytes: usize,
    /// Tool calls.
    pub tool_calls: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { answer_bytes: 8 * 1024 * 1024, line_bytes: 1024 * 1024, tool_calls: 128 }
    }
}

/// Why a configuration is refused. Never a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The address is of no use.
    #[error("the base URL of provider {provider} is not usable: {reason}")]
    BaseUrl {
        /// Whose.
        provider: String,
        /// Why.
        reason: &'static str,
    },
    /// The key or a header has characters that HTTP does not carry.
    #[error("the header {name} of provider {provider} has a name or value that HTTP cannot carry")]
    Header {
        /// Whose.
        provider: String,
        /// Which.
        name: String,
    },
    /// No HTTP client could be made.
    #[error("no HTTP client could be made: {reason}; are certificate authorities (ca-certificates) installed?")]
    Client {
        /// Why.
        reason: String,
    },
}
