//! What we do for a server: hear of progress and of changed tools. Nothing else that it asks for is granted.
#![expect(deprecated, reason = "older servers may still ask for what newer ones may not, and are refused")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rmcp::model::{
    ClientCapabilities, ClientConfig, CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams,
    ElicitResult, ErrorCode, ErrorData, Implementation, ListRootsResult, ProgressNotificationParam, ProgressToken,
    ProtocolVersion,
};
use rmcp::service::{NotificationContext, RequestContext};
use rmcp::{ClientHandler, RoleClient};
use tokio::sync::{Notify, mpsc};

use crate::text;

/// How far a call is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Progress {
    pub(crate) message: String,
    pub(crate) fraction: Option<f64>,
}

/// Who wants to hear of the progress of which call.
#[derive(Debug, Default)]
pub(crate) struct Listeners(Mutex<HashMap<ProgressToken, mpsc::Sender<Progress>>>);

impl Listeners {
    pub(crate) fn add(&self, token: ProgressToken) -> mpsc::Receiver<Progress> {
        let (sender, receiver) = mpsc::channel(16);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(token, sender);
        receiver
    }

    pub(crate) fn remove(&self, token: &ProgressToken) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(token);
    }

    fn tell(&self, progress: &ProgressNotificationParam) {
        let listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(listener) = listeners.get(&progress.progress_token) else { return };
        let fraction =
            progress.total.filter(|total| *total > 0.0).map(|total| (progress.progress / total).clamp(0.0, 1.0));
        let message = text::line(progress.message.as_deref().unwrap_or_default(), 200);
        // A hint: when nobody keeps up, the next one will do.
        let _ = listener.try_send(Progress { message, fraction: fraction.filter(|fraction| fraction.is_finite()) });
    }
}

/// Our side of a connection.
#[derive(Clone)]
pub(crate) struct Handler {
    pub(crate) listeners: Arc<Listeners>,
    pub(crate) tools_changed: Arc<Notify>,
}

fn denied<T>(what: &str) -> Result<T, ErrorData> {
    Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, format!("{what} is not granted"), None))
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        let us = Implementation::new("agentrunner", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(ClientCapabilities::default(), us)
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
    }

    async fn create_message(
        &self,
        _: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        denied("sampling")
    }

    async fn list_roots(&self, _: RequestContext<RoleClient>) -> Result<ListRootsResult, ErrorData> {
        denied("listing roots")
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        denied("elicitation")
    }

    async fn on_progress(&self, progress: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.listeners.tell(&progress);
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.tools_changed.notify_one();
    }
}
