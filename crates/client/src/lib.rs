//! Typed client of the platform's REST API, for the command line and for tests.
//!
//! Errors carry the server's problem as it was sent. Event streams resume by themselves where they broke off.

mod decisions;
mod error;
mod events;
mod http;
mod sse;
mod tasks;

use std::time::Duration;

use domain::{AgentName, ThreadId};
use serde_json::Value;
use url::Url;
use wire::{AgentView, MessageView, ModelView, Page, PoolStats, ThreadView, ToolServerView};

pub use error::{ClientError, Fault, Problem};
pub use events::TaskEvent;
pub use tasks::{ListTasks, Submitted};

use http::path_segment;

/// How long an ordinary request may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a connection may be silent: event streams send a heartbeat four times as often.
const SILENCE: Duration = Duration::from_mins(1);

/// A client of one platform. Clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    orchestrator: Url,
    configs: Option<Url>,
}

impl Client {
    /// Makes a client of the orchestrator at `base`, such as `http://127.0.0.1:8003`. Nothing is sent yet.
    pub fn new(base: &str) -> Result<Self, ClientError> {
        let orchestrator = base_url(base)?;
        // Another part of the process may have installed it before; there is only one provider to choose.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder().connect_timeout(Duration::from_secs(5)).read_timeout(SILENCE);
        if is_loopback(&orchestrator) {
            builder = builder.no_proxy();
        }
        let http =
            builder.build().map_err(|source| ClientError::Transport { url: orchestrator.to_string(), source })?;
        Ok(Self { http, orchestrator, configs: None })
    }

    /// Adds the config service at `base`, such as `http://127.0.0.1:8002`, for [`Client::configs`] and its likes.
    pub fn with_config_service(mut self, base: &str) -> Result<Self, ClientError> {
        self.configs = Some(base_url(base)?);
        Ok(self)
    }

    /// Tells whether the orchestrator answers at all.
    pub async fn healthy(&self) -> bool {
        let get = self.http.get(self.at("health/live")).timeout(Duration::from_secs(2));
        self.json::<Value>(get).await.is_ok_and(|answer| answer["status"] == "alive")
    }

    /// Reads the orchestrator's readiness: one entry a backend. A service that is not ready answers, too.
    pub async fn ready(&self) -> Result<Value, ClientError> {
        let response = self.send(self.http.get(self.at("health/ready")).timeout(PATIENCE)).await?;
        let url = response.url().to_string();
        response.json().await.map_err(|source| ClientError::Transport { url, source })
    }

    /// Lists the agents.
    pub async fn agents(&self) -> Result<Vec<AgentView>, ClientError> {
        self.json(self.get("agents")).await
    }

    /// Shows one agent.
    pub async fn agent(&self, name: &AgentName) -> Result<AgentView, ClientError> {
        self.json(self.get(&format!("agents/{name}"))).await
    }

    /// Lists the known models.
    pub async fn models(&self) -> Result<Vec<ModelView>, ClientError> {
        self.json(self.get("models")).await
    }

    /// Lists the servers that bring tools.
    pub async fn tool_servers(&self) -> Result<Vec<ToolServerView>, ClientError> {
        self.json(self.get("tools")).await
    }

    /// Accepts what a server says of one of its tools, or of all of them.
    pub async fn approve_tools(&self, server: &str, tool: Option<&str>) -> Result<ToolServerView, ClientError> {
        let body = wire::ApproveTools { tool: tool.map(str::to_owned) };
        self.json(self.post(&format!("tools/{}/approve", path_segment(server))).json(&body)).await
    }

    /// Shows how much work there is.
    pub async fn pool_stats(&self) -> Result<PoolStats, ClientError> {
        self.json(self.get("metrics/pool-stats")).await
    }

    /// Lists conversations, the newest first.
    pub async fn threads(&self, cursor: Option<&str>, limit: u32) -> Result<Page<ThreadView>, ClientError> {
        self.json(self.get("threads").query(&http::page_query(cursor, limit))).await
    }

    /// Lists a conversation's messages, the oldest first.
    pub async fn messages(
        &self,
        thread: ThreadId,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<MessageView>, ClientError> {
        let path = format!("threads/{thread}/messages");
        self.json(self.get(&path).query(&http::page_query(cursor, limit))).await
    }

    /// Lists the agents' files as the config service knows them.
    pub async fn configs(&self) -> Result<Vec<Value>, ClientError> {
        self.json(self.http.get(self.config_at("configs")?).timeout(PATIENCE)).await
    }

    /// Shows one agent's file.
    pub async fn config(&self, name: &str) -> Result<Value, ClientError> {
        let path = format!("configs/{}", path_segment(name));
        self.json(self.http.get(self.config_at(&path)?).timeout(PATIENCE)).await
    }

    /// Lists what is wrong with the agents' files; empty when all is well.
    pub async fn config_errors(&self) -> Result<Vec<Fault>, ClientError> {
        self.json(self.http.get(self.config_at("configs/errors")?).timeout(PATIENCE)).await
    }

    /// Checks the text of an agent's file without storing it; what is wrong comes back as a problem with its faults, which
    /// call the file `name`.
    pub async fn validate(&self, name: &str, yaml: &str) -> Result<Value, ClientError> {
        let post = self.http.post(self.config_at("configs/validate")?).query(&[("file", name)]).timeout(PATIENCE);
        self.json(post.header("content-type", "application/yaml").body(yaml.to_owned())).await
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.orchestrator)
    }

    fn config_at(&self, path: &str) -> Result<String, ClientError> {
        let base = self.configs.as_ref().ok_or(ClientError::NoConfigService)?;
        Ok(format!("{base}{path}"))
    }
}

/// Checks a base address and ends its path with a slash.
fn base_url(base: &str) -> Result<Url, ClientError> {
    let invalid = |reason: String| ClientError::Address { address: base.to_owned(), reason };
    let mut url = Url::parse(base).map_err(|error| invalid(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(invalid("must begin with http:// or https:// and name a host".to_owned()));
    }
    url.set_query(None);
    url.set_fragment(None);
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_checked_before_anything_is_sent() {
        for wrong in ["", "localhost:8003", "ftp://localhost", "unix:/tmp/x", "http://"] {
            assert!(matches!(Client::new(wrong), Err(ClientError::Address { .. })), "{wrong}");
        }
        let client = Client::new("http://localhost:8003/platform").unwrap();
        assert_eq!(client.at("tasks"), "http://localhost:8003/platform/tasks");
    }
}
