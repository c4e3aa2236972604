//! The servers that bring tools, where pools are processes of their own: a pool is asked, and nothing is started here.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bus::{BusError, Requests};
use tools::servers::{ApproveError, SUBJECT, ServerStatus, ServersAnswered, ServersAsked, ToolServers};

/// A server that was never started may take its time to list its tools.
const PATIENCE: Duration = Duration::from_secs(35);

/// Asks any pool.
pub struct ServersOfPools {
    requests: Arc<dyn Requests>,
}

impl ServersOfPools {
    /// Asks by these requests.
    pub fn new(requests: Arc<dyn Requests>) -> Self {
        Self { requests }
    }

    async fn ask(&self, asked: &ServersAsked) -> Result<Vec<ServerStatus>, ApproveError> {
        let elsewhere = |reason: String| ApproveError::Elsewhere { reason };
        let body = serde_json::to_vec(asked).map_err(|error| elsewhere(error.to_string()))?;
        let answer = self.requests.request(SUBJECT, body.into(), PATIENCE).await.map_err(|error| match error {
            BusError::NoResponder { .. } => {
                elsewhere("no pool runs that could say which tool servers there are".to_owned())
            }
            error => elsewhere(format!("no pool could be asked for its tool servers: {error}")),
        })?;
        let answered: ServersAnswered =
            serde_json::from_slice(&answer).map_err(|error| elsewhere(error.to_string()))?;
        answered.servers()
    }
}

#[async_trait]
impl ToolServers for ServersOfPools {
    async fn list(&self) -> Result<Vec<ServerStatus>, ApproveError> {
        self.ask(&ServersAsked::List).await
    }

    async fn refresh(&self, server: &str) -> Result<ServerStatus, ApproveError> {
        let found = self.list().await?.into_iter().find(|status| status.name == server);
        found.ok_or_else(|| ApproveError::UnknownServer { name: server.chars().take(80).collect() })
    }

    async fn approve(&self, server: &str, tool: Option<&str>) -> Result<ServerStatus, ApproveError> {
        let asked = ServersAsked::Approve { server: server.to_owned(), tool: tool.map(str::to_owned) };
        let approved = self.ask(&asked).await?.into_iter().next();
        approved.ok_or_else(|| ApproveError::UnknownServer { name: server.chars().take(80).collect() })
    }

    async fn shutdown(&self) {}
}
