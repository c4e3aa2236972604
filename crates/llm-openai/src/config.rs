//! Where a server is, and how much of it we bear.

use std::fmt;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

/// A secret that does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// Takes a key; white space around it, such as the line end of a file, is no part of it.
    pub fn new(key: impl AsRef<str>) -> Self {
        Self(key.as_ref().trim().to_owned())
    }

    pub(crate) fn expose(&self) -> &str {
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

/// How much an answer may bring before it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole stream.
    pub answer_bytes: usize,
    /// Bytes of one line of the stream.
    pub line_bytes: usize,
    /// Tool calls.
    pub tool_calls: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { answer_bytes: 8 * 1024 * 1024, line_bytes: 1024 * 1024, tool_calls: 128 }
    }
}

impl OpenAiConfig {
    /// A server without a key, and the usual patience.
    pub fn new(provider: impl Into<String>, base_url: impl Into<String>) -> Self {
        Self {
            provider: provider.into(),
            base_url: base_url.into(),
            api_key: None,
            headers: Vec::new(),
            max_retries: 3,
            first_pause: Duration::from_millis(500),
            limits: Limits::default(),
        }
    }

    /// The same with a key.
    #[must_use]
    pub fn with_api_key(mut self, key: ApiKey) -> Self {
        self.api_key = Some(key);
        self
    }

    /// The address of an endpoint.
    pub(crate) fn endpoint(&self, path: &str) -> Result<Url, ConfigError> {
        let wrong = |reason: &'static str| ConfigError::BaseUrl { provider: self.provider.clone(), reason };
        let url = Url::parse(self.base_url.trim()).map_err(|_| wrong("it is no URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("it must begin with http:// or https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it must not contain credentials; give the key separately"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("it must end with a path, without ? or #"));
        }
        let joined = format!("{}/{path}", url.as_str().trim_end_matches('/'));
        Url::parse(&joined).map_err(|_| wrong("it is no URL"))
    }

    /// The headers of every request.
    pub(crate) fn header_map(&self) -> Result<HeaderMap, ConfigError> {
        let mut map = HeaderMap::new();
        map.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        map.insert(ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
        if let Some(key) = &self.api_key {
            let bearer = format!("Bearer {}", key.expose());
            map.insert(AUTHORIZATION, self.secret_value("authorization", &bearer)?);
        }
        for (name, value) in &self.headers {
            let parsed = HeaderName::try_from(name.as_str()).map_err(|_| self.wrong_header(name))?;
            map.insert(parsed, self.secret_value(name, value.expose())?);
        }
        Ok(map)
    }

    /// Everything that must never be shown.
    pub(crate) fn secrets(&self) -> Vec<ApiKey> {
        self.api_key.iter().chain(self.headers.iter().map(|(_, value)| value)).cloned().collect()
    }

    fn secret_value(&self, name: &str, value: &str) -> Result<HeaderValue, ConfigError> {
        let mut value = HeaderValue::from_str(value).map_err(|_| self.wrong_header(name))?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn wrong_header(&self, name: &str) -> ConfigError {
        ConfigError::Header { provider: self.provider.clone(), name: name.to_owned() }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_lie_under_the_base_url() {
        for base in ["http://localhost:11434/v1", "http://localhost:11434/v1/", " http://localhost:11434/v1// "] {
            let url = OpenAiConfig::new("ollama", base).endpoint("chat/completions").unwrap();
            assert_eq!(url.as_str(), "http://localhost:11434/v1/chat/completions");
        }
        let root = OpenAiConfig::new("llama", "https://models.example").endpoint("models").unwrap();
        assert_eq!(root.as_str(), "https://models.example/models");
    }

    #[test]
    fn a_base_url_that_is_of_no_use_is_refused() {
        for base in ["", "localhost:11434", "ftp://a/v1", "file:///etc", "https://user:pw@a/v1", "https://a/v1?key=b"] {
            let error = OpenAiConfig::new("x", base).endpoint("models").unwrap_err();
            assert!(!error.to_string().contains("pw"), "{error}");
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let mut config = OpenAiConfig::new("x", "https://a/v1").with_api_key(ApiKey::new("sk-canary\n"));
        config.headers.push(("x-org".to_owned(), ApiKey::new("canary-org")));
        let printed = format!("{config:?} {:?}", config.header_map().unwrap());
        assert!(!printed.contains("canary"), "{printed}");
        config.headers.push(("x-bad".to_owned(), ApiKey::new("canary\r\nx: y")));
        let error = config.header_map().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}
