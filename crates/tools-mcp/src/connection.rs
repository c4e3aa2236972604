//! One conversation with one server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::model::{
    ClientRequest, ListToolsRequest, PaginatedRequestParams, ProtocolVersion, ServerResult, SubscriptionFilter,
};
use rmcp::service::{
    ClientInitializeError, ClientLifecycleMode, ClientServiceExt as _, Peer, PeerRequestOptions, RequestHandle,
    RunningService, ServiceError,
};
use rmcp::transport::Transport;
use rmcp::transport::streamable_http_client::{AuthRequiredError, InsufficientScopeError};
use tokio::sync::{Mutex, Notify};

use crate::definition::{Definition, Listing};
use crate::fate::Fate;
use crate::handler::{Handler, Listeners, Progress};
use crate::police::Policed;
use crate::text;

/// How many tools of one server are looked at.
const MAX_TOOLS: usize = 512;
/// How many pages a list may have.
const MAX_PAGES: usize = 64;
/// After how many calls in a row that nobody waited for any more a server is taken for dead.
const MAX_ABANDONED: u32 = 5;
/// How long an orderly end may take.
const CLOSE: Duration = Duration::from_secs(3);

/// Why a request got no answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Lost {
    /// It was not sent, or its answer never came.
    Gone(String),
    /// The server answered with an error.
    Error { code: i32, message: String },
}

/// Why no conversation began.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NoConnection {
    /// The server wants a token.
    Unauthorized,
    /// The server closed on us; another way of greeting may help.
    Closed,
    /// The server did not understand how we greeted it, and did not say so as it should; another way may help.
    Confused,
    /// It did not work.
    Failed(String),
}

pub(crate) struct Connection {
    service: Mutex<Option<RunningService<RoleClient, Handler>>>,
    peer: Peer<RoleClient>,
    pub(crate) fate: Arc<Fate>,
    listeners: Arc<Listeners>,
    tools_changed: Arc<Notify>,
    listing: RwLock<Listing>,
    abandoned: AtomicU32,
}

impl Connection {
    /// Greets a server: in the current revision of the protocol, and in an older one if it knows no other; with
    /// `old`, only in older ones.
    pub(crate) async fn open<T>(transport: T, fate: &Arc<Fate>, old: bool) -> Result<Self, NoConnection>
    where
        T: Transport<RoleClient> + 'static,
    {
        let handler = Handler { listeners: Arc::default(), tools_changed: Arc::default() };
        let (listeners, tools_changed) = (Arc::clone(&handler.listeners), Arc::clone(&handler.tools_changed));
        let lifecycle = if old {
            ClientLifecycleMode::Initialize
        } else {
            ClientLifecycleMode::Auto { preferred_versions: vec![ProtocolVersion::LATEST], legacy_version: None }
        };
        let served = handler.serve_with_lifecycle(Policed::new(transport, fate), lifecycle).await;
        let service = served.map_err(|error| explain(&error, fate))?;
        let connection = Self {
            peer: service.peer().clone(),
            service: Mutex::new(Some(service)),
            fate: Arc::clone(fate),
            listeners,
            tools_changed,
            listing: RwLock::default(),
            abandoned: AtomicU32::new(0),
        };
        connection.check_revision()?;
        Ok(connection)
    }

    fn check_revision(&self) -> Result<(), NoConnection> {
        let revision = self.protocol();
        if ProtocolVersion::KNOWN_VERSIONS.iter().any(|known| known.as_str() == revision) {
            return Ok(());
        }
        Err(NoConnection::Failed(format!("the server speaks an unknown revision, {}", text::line(&revision, 40))))
    }

    /// The revision of the protocol that is spoken.
    pub(crate) fn protocol(&self) -> String {
        self.peer.peer_info().map(|info| info.protocol_version.to_string()).unwrap_or_default()
    }

    /// Tells whether the server says that it has resources.
    pub(crate) fn has_resources(&self) -> bool {
        self.peer.peer_info().is_some_and(|info| info.capabilities.resources.is_some())
    }

    pub(crate) fn is_over(&self) -> bool {
        self.fate.over.is_cancelled() || self.peer.is_transport_closed()
    }

    /// What the server listed last.
    pub(crate) fn listing(&self) -> Listing {
        Arc::clone(&self.listing.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks for the tools.
    pub(crate) async fn list(&self) -> Result<Listing, Lost> {
        let mut tools = BTreeMap::new();
        if self.peer.peer_info().is_some_and(|info| info.capabilities.tools.is_some()) {
            let mut cursor = None;
            for _ in 0..MAX_PAGES {
                let params = cursor.map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
                let request = ListToolsRequest { params, ..ListToolsRequest::default() };
                let answer = self.ask(ClientRequest::ListToolsRequest(request), &|_| {}).await?;
                let ServerResult::ListToolsResult(page) = answer else {
                    return Err(Lost::Gone("the server's list of tools is none".to_owned()));
                };
                for tool in &page.tools {
                    let definition = Definition::of(tool);
                    // Twice the same name: the first one stays, as it would for every other reader.
                    tools.entry(definition.name.clone()).or_insert(definition);
                }
                if tools.len() > MAX_TOOLS {
                    self.fate.broken("the server lists more than 512 tools");
                    return Err(Lost::Gone(self.fate.reason()));
                }
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
        }
        let listing: Listing = Arc::new(tools);
        *self.listing.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&listing);
        Ok(listing)
    }

    /// Waits until the server says that its tools changed; false when the conversation is over.
    pub(crate) async fn tools_changed(&self, subscription: &mut Option<rmcp::service::Subscription>) -> bool {
        let subscribed = async {
            match subscription {
                Some(live) => live.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.fate.over.cancelled() => return false,
            () = self.tools_changed.notified() => return true,
            next = subscribed => {
                if !matches!(next, Ok(Some(_))) {
                    *subscription = None;
                }
            }
        }
        !self.is_over()
    }

    /// Asks to be told of changed tools; older servers tell without being asked.
    pub(crate) async fn subscribe(&self) -> Option<rmcp::service::Subscription> {
        let info = self.peer.peer_info()?;
        let tells = info.capabilities.tools.as_ref()?.list_changed.unwrap_or_default();
        if !tells || info.protocol_version.has_initialize() {
            return None;
        }
        self.peer.listen(SubscriptionFilter::builder().tools_list_changed().build()).await.ok()
    }

    /// Asks something and waits for the answer. Whoever stops waiting cancels it.
    pub(crate) async fn ask(
        &self,
        request: ClientRequest,
        on_progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<ServerResult, Lost> {
        let sent = self.peer.send_cancellable_request(request, PeerRequestOptions::no_options()).await;
        let handle = sent.map_err(|error| self.lost(error))?;
        let mut progress = self.listeners.add(handle.progress_token.clone());
        let mut asked = Asked { connection: self, handle: Some(handle) };
        let answer = loop {
            let Some(handle) = asked.handle.as_mut() else { break Err(ServiceError::TransportClosed) };
            tokio::select! {
                biased;
                answer = &mut handle.rx => break answer.unwrap_or(Err(ServiceError::TransportClosed)),
                Some(progress) = progress.recv() => on_progress(progress),
                () = self.fate.over.cancelled() => break Err(ServiceError::TransportClosed),
            }
        };
        asked.answered();
        answer.map_err(|error| self.lost(error))
    }

    fn lost(&self, error: ServiceError) -> Lost {
        match error {
            ServiceError::McpError(error) => {
                Lost::Error { code: error.code.0, message: text::line(&error.message, 2_000) }
            }
            ServiceError::TransportSend(error) => {
                if wants_token(error.error.as_ref()) {
                    self.fate.broken("the server wants a token that is missing or no longer good");
                }
                let cause = text::line(&error.error.to_string(), 300);
                Lost::Gone(if self.fate.over.is_cancelled() { self.fate.reason() } else { cause })
            }
            ServiceError::TransportClosed => Lost::Gone(self.fate.reason()),
            other => Lost::Gone(text::line(&other.to_string(), 300)),
        }
    }

    /// Ends the conversation, and the program with it.
    pub(crate) async fn close(&self) {
        self.fate.over.cancel();
        if let Some(mut service) = self.service.lock().await.take() {
            let _ = service.close_with_timeout(CLOSE).await;
        }
    }
}

/// A request under way.
struct Asked<'a> {
    connection: &'a Connection,
    handle: Option<RequestHandle<RoleClient>>,
}

impl Asked<'_> {
    fn answered(&mut self) {
        self.connection.abandoned.store(0, Ordering::Relaxed);
        if let Some(handle) = self.handle.take() {
            self.connection.listeners.remove(&handle.progress_token);
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let Some(handle) = self.handle.take() else { return };
        self.connection.listeners.remove(&handle.progress_token);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let cancelled = handle.cancel(Some("nobody waits for the answer any more".to_owned()));
                let _ = tokio::time::timeout(CLOSE, cancelled).await;
            });
        }
        if self.connection.abandoned.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_ABANDONED {
            self.connection.fate.broken("the server answers no calls");
        }
    }
}

fn explain(error: &ClientInitializeError, fate: &Fate) -> NoConnection {
    if error.is_authorization_required() {
        return NoConnection::Unauthorized;
    }
    match error {
        ClientInitializeError::ConnectionClosed(_) => NoConnection::Closed,
        _ if fate.over.is_cancelled() => NoConnection::Closed,
        ClientInitializeError::TransportError { error, .. } => {
            NoConnection::Failed(text::line(&innermost(error.error.as_ref()), 300))
        }
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => explain(fallback, fate),
        ClientInitializeError::JsonRpcError(error) => {
            NoConnection::Failed(format!("the server refuses to begin: {}", text::line(&error.message, 300)))
        }
        ClientInitializeError::NoCompatibleProtocolVersion { .. } => {
            NoConnection::Failed("the server speaks no revision of the protocol that we do".to_owned())
        }
        _ => NoConnection::Confused,
    }
}

fn wants_token(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if cause.is::<AuthRequiredError>() || cause.is::<InsufficientScopeError>() {
            return true;
        }
        next = cause.source();
    }
    false
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
