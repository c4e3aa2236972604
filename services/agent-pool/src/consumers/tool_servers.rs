//! Questions about the servers that bring tools: only pools have them, and any pool answers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bus::{RequestHandler, Requests};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tools::servers::{SUBJECT, ServersAnswered, ServersAsked, ToolServers};

/// How long to wait before serving again when that failed.
const PAUSE: Duration = Duration::from_secs(1);

struct Answers(Arc<dyn ToolServers>);

#[async_trait]
impl RequestHandler for Answers {
    async fn handle(&self, body: Bytes) -> Bytes {
        let answer = match serde_json::from_slice::<ServersAsked>(&body) {
            Ok(asked) => ServersAnswered::to(asked, self.0.as_ref()).await,
            Err(error) => ServersAnswered::Failed { reason: format!("the question is not understood: {error}") },
        };
        serde_json::to_vec(&answer).unwrap_or_default().into()
    }
}

/// Answers until `stop`.
pub(crate) async fn serve(servers: Arc<dyn ToolServers>, requests: Arc<dyn Requests>, stop: CancellationToken) {
    let mut failing = false;
    while !stop.is_cancelled() {
        match requests.serve(SUBJECT, Arc::new(Answers(Arc::clone(&servers)))).await {
            Ok(_serving) => return stop.cancelled().await,
            Err(error) if failing => tracing::debug!(%error, "questions about tool servers cannot be served yet"),
            Err(error) => tracing::warn!(%error, "questions about tool servers cannot be served, trying again"),
        }
        failing = true;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}
