//! The record of another process, and answering for one: state calls travel as requests.

use std::sync::Arc;
use std::time::Duration;

use bus::Requests;
use common::health::Probe;
use domain::SystemIds;
use state::State;
use state_remote::{ClientOptions, RemoteState, ServerOptions};
use tokio_util::sync::CancellationToken;

use super::Messages;

/// How long to wait before serving again when that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How long calls under way may take once no new ones are taken.
const CLOSING: Duration = Duration::from_secs(5);

/// The record behind requests; any state-manager answers.
pub fn remote_record(messages: &Messages) -> (Arc<dyn State>, Probe) {
    let state = RemoteState::new(Arc::clone(&messages.requests), Arc::new(SystemIds), ClientOptions::default());
    let state: Arc<dyn State> = Arc::new(state);
    let probe = Probe::record("state", &state);
    (state, probe)
}

/// Answers for a record until `stop`, beside any other process that does; calls under way are then answered.
pub async fn serve_record(requests: Arc<dyn Requests>, state: Arc<dyn State>, stop: CancellationToken) {
    let mut failing = false;
    while !stop.is_cancelled() {
        match state_remote::serve(requests.as_ref(), Arc::clone(&state), ServerOptions::default()).await {
            Ok(serving) => {
                stop.cancelled().await;
                if !serving.stop(CLOSING).await {
                    tracing::warn!("calls of the record were cut off, their callers will ask again");
                }
                return;
            }
            Err(error) if failing => tracing::debug!(%error, "the record cannot be served yet"),
            Err(error) => tracing::warn!(%error, "the record cannot be served, trying again"),
        }
        failing = true;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}
