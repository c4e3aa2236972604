//! One server: its addresses, its headers, and what must never be told of it.

use std::fmt;
use std::time::Duration;

use domain::Message;
use llm::ChatRequest;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Url};
use serde_json::Value;
use tokio::time::Instant;

use crate::{ApiKey, Asked, ConfigError, Limits, Retries, ServerConfig, Words};

/// A server that is spoken with.
pub struct Server {
    provider: String,
    base: Url,
    headers: HeaderMap,
    secrets: Vec<ApiKey>,
    words: Words,
    max_retries: u32,
    first_pause: Duration,
    limits: Limits,
    http: Client,
}

impl Server {
    /// Checks the configuration. `words` are those that the dialect's complaints are known by. The client should come from
    /// `http_client`: one that follows redirects carries the key away.
    pub fn new(config: ServerConfig, words: Words, http: Client) -> Result<Self, ConfigError> {
        let secrets = config.bearer.iter().chain(config.headers.iter().map(|(_, value)| value)).chain(&config.secrets);
        Ok(Self {
            base: base_url(&config)?,
            headers: header_map(&config)?,
            secrets: secrets.cloned().collect(),
            words,
            provider: config.provider,
            max_retries: config.max_retries,
            first_pause: config.first_pause,
            limits: config.limits,
            http,
        })
    }

    /// What its models are called before the slash.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// How much an answer may bring.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The address of an endpoint under the base URL; the path is escaped already.
    pub fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let joined = format!("{}/{path}", url.path().trim_end_matches('/'));
        url.set_path(&joined);
        url
    }

    /// A request with the server's headers.
    pub fn get(&self, url: &Url) -> RequestBuilder {
        self.http.get(url.clone()).headers(self.headers.clone())
    }

    /// A request with a JSON body and the server's headers.
    pub fn post(&self, url: &Url, body: Vec<u8>) -> RequestBuilder {
        self.http.post(url.clone()).headers(self.headers.clone()).body(body)
    }

    /// `provider/name`.
    pub fn full_name(&self, model: &str) -> String {
        format!("{}/{model}", self.provider)
    }

    /// One who speaks of this call's failures. `private` is what was said to the model, which no error repeats.
    pub fn asked<'a>(&'a self, model: &str, private: Vec<&'a str>) -> Asked<'a> {
        Asked::new(self.full_name(model), &self.secrets, self.words, private)
    }

    /// One who speaks of the failures of a chat.
    pub fn asked_to_chat<'a>(&'a self, request: &'a ChatRequest) -> Asked<'a> {
        self.asked(&request.model, request.messages.iter().flat_map(said).collect())
    }

    /// The repetitions of one call, which must have ended at the deadline.
    pub fn retries(&self, deadline: Instant) -> Retries {
        Retries::new(self.max_retries, self.first_pause, deadline)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("provider", &self.provider)
            .field("base_url", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

/// The words of a message, of its calls' arguments and of its reasoning.
fn said(message: &Message) -> Vec<&str> {
    match message {
        Message::System { text } | Message::User { text, .. } | Message::Tool { text, .. } => vec![text],
        Message::Assistant { text, tool_calls, reasoning } => {
            let mut words = vec![text.as_str()];
            words.extend(reasoning.iter().map(|piece| piece.text.as_str()));
            for call in tool_calls {
                words_of(&call.arguments, &mut words);
            }
            words
        }
    }
}

fn words_of<'a>(value: &'a Value, words: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => words.push(text),
        Value::Array(items) => items.iter().for_each(|item| words_of(item, words)),
        Value::Object(entries) => entries.values().for_each(|entry| words_of(entry, words)),
        _ => {}
    }
}

fn base_url(config: &ServerConfig) -> Result<Url, ConfigError> {
    let wrong = |reason: &'static str| ConfigError::BaseUrl { provider: config.provider.clone(), reason };
    let url = Url::parse(config.base_url.trim()).map_err(|_| wrong("it is no URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("it must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("it must not contain credentials; give the key separately"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it must end with a path, without ? or #"));
    }
    Ok(url)
}

fn header_map(config: &ServerConfig) -> Result<HeaderMap, ConfigError> {
    let wrong = |name: &str| ConfigError::Header { provider: config.provider.clone(), name: name.to_owned() };
    let secret = |name: &str, value: &str| {
        let mut value = HeaderValue::from_str(value).map_err(|_| wrong(name))?;
        value.set_sensitive(true);
        Ok(value)
    };
    let mut map = HeaderMap::new();
    map.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    map.insert(ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
    if let Some(key) = &config.bearer {
        map.insert(AUTHORIZATION, secret("authorization", &format!("Bearer {}", key.expose()))?);
    }
    for (name, value) in &config.headers {
        let parsed = HeaderName::try_from(name.as_str()).map_err(|_| wrong(name))?;
        map.insert(parsed, secret(name, value.expose())?);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(config: ServerConfig) -> Result<Server, ConfigError> {
        Server::new(config, Words::default(), crate::http_client().expect("a client"))
    }

    #[test]
    fn endpoints_lie_under_the_base_url() {
        for base in ["http://localhost:11434/v1", "http://localhost:11434/v1/", " http://localhost:11434/v1// "] {
            let url = server(ServerConfig::new("x", base)).unwrap().url("chat/completions");
            assert_eq!(url.as_str(), "http://localhost:11434/v1/chat/completions");
        }
        let root = server(ServerConfig::new("x", "https://models.example")).unwrap();
        assert_eq!(root.url("models").as_str(), "https://models.example/models");
        assert_eq!(root.url("model/a%3A1%2Fb/x").as_str(), "https://models.example/model/a%3A1%2Fb/x");
    }

    #[test]
    fn a_base_url_that_is_of_no_use_is_refused() {
        for base in ["", "localhost:11434", "ftp://a/v1", "file:///etc", "https://user:pw@a/v1", "https://a/v1?key=b"] {
            let error = server(ServerConfig::new("x", base)).unwrap_err();
            assert!(!error.to_string().contains("pw"), "{error}");
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let mut config = ServerConfig::new("x", "https://a/v1");
        config.bearer = Some(ApiKey::new("sk-canary\n"));
        config.headers.push(("x-org".to_owned(), ApiKey::new("canary-org")));
        config.secrets.push(ApiKey::new("canary-signs"));
        let printed =
            format!("{config:?} {:?} {:?}", header_map(&config).unwrap(), server(config.clone()).expect("good"));
        assert!(!printed.contains("canary"), "{printed}");
        config.headers.push(("x-bad".to_owned(), ApiKey::new("canary\r\nx: y")));
        let error = server(config).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}
