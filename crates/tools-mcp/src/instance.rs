//! One server for one namespace: started when it is needed, started again when it ended, left alone when it keeps failing.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use domain::Namespace;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::connection::{Connection, NoConnection};
use crate::fate::Fate;
use crate::server::Server;

/// The pause after a first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Who lived this long has not failed in a row.
const HEALTHY: Duration = Duration::from_secs(60);
/// The changes within this time are looked at together.
const SETTLE: Duration = Duration::from_millis(100);

/// A server for a namespace.
pub(crate) struct Instance {
    pub(crate) namespace: Namespace,
    server: Weak<Server>,
    slot: Arc<Mutex<Slot>>,
    /// The server closed on us when we greeted it in the current revision.
    old: AtomicBool,
    pub(crate) calls: AtomicU32,
    used: std::sync::Mutex<Instant>,
}

#[derive(Default)]
struct Slot {
    live: Option<(Arc<Connection>, Instant)>,
    failures: u32,
    paused: Option<(Instant, String)>,
}

/// How an instance is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    Idle,
    Starting,
    Ready(String),
    Unavailable(String),
}

impl Instance {
    pub(crate) fn new(namespace: Namespace, server: Weak<Server>) -> Self {
        Self {
            namespace,
            server,
            slot: Arc::default(),
            old: AtomicBool::new(false),
            calls: AtomicU32::new(0),
            used: std::sync::Mutex::new(Instant::now()),
        }
    }

    /// When it was last used.
    pub(crate) fn used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Finds the live connection, or makes one; at once an error while the server is left alone.
    ///
    /// A caller that stops waiting does not stop the start: the next one finds it done.
    pub(crate) async fn connect(self: &Arc<Self>) -> Result<Arc<Connection>, String> {
        *self.used.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now();
        let own = Arc::clone(self);
        let started = tokio::spawn(async move {
            let mut slot = Arc::clone(&own.slot).lock_owned().await;
            own.connect_in(&mut slot).await
        });
        started.await.unwrap_or_else(|_| Err("the platform is stopping".to_owned()))
    }

    async fn connect_in(self: &Arc<Self>, slot: &mut Slot) -> Result<Arc<Connection>, String> {
        if let Some((connection, since)) = &slot.live {
            if !connection.is_over() {
                return Ok(Arc::clone(connection));
            }
            let since = *since;
            connection.close().await;
            let reason = connection.fate.reason();
            slot.live = None;
            if since.elapsed() >= HEALTHY {
                slot.failures = 0;
            }
            self.failed(slot, reason);
        }
        if let Some((until, reason)) = &slot.paused
            && Instant::now() < *until
        {
            return Err(reason.clone());
        }
        match self.start().await {
            Ok(connection) => {
                slot.live = Some((Arc::clone(&connection), Instant::now()));
                slot.paused = None;
                self.watch(&connection);
                Ok(connection)
            }
            Err(reason) => {
                self.failed(slot, reason.clone());
                Err(reason)
            }
        }
    }

    fn failed(&self, slot: &mut Slot, reason: String) {
        slot.failures = slot.failures.saturating_add(1);
        let pause = FIRST_PAUSE.saturating_mul(1 << (slot.failures - 1).min(10)).min(LONGEST_PAUSE);
        if let Some(server) = self.server.upgrade() {
            tracing::warn!(server = %server.name, failures = slot.failures, pause_ms = pause.as_millis() as u64, reason, "a tool server is unavailable");
        }
        slot.paused = Some((Instant::now() + pause, reason));
    }

    async fn start(&self) -> Result<Arc<Connection>, String> {
        let Some(server) = self.server.upgrade() else { return Err("the platform is stopping".to_owned()) };
        let within = server.startup_timeout;
        let started = tokio::time::timeout(within, async {
            let connection = self.greet(&server).await?;
            let listed = connection.list().await;
            let listing = listed.map_err(|lost| format!("its tools could not be listed: {lost:?}"))?;
            server.observe(&listing, &connection).await.map_err(|error| error.to_string())?;
            Ok(Arc::new(connection))
        });
        let started =
            started.await.unwrap_or_else(|_| Err(format!("it did not begin within {}", domain::HumanDuration(within))));
        if let Ok(connection) = &started {
            tracing::info!(server = %server.name, namespace = %self.namespace, protocol = %connection.protocol(), "a tool server is ready");
        }
        started
    }

    async fn greet(&self, server: &Server) -> Result<Connection, String> {
        loop {
            let old = self.old.load(Ordering::Relaxed);
            let fate = Arc::new(Fate::default());
            match server.open(&fate, old).await {
                Ok(connection) => return Ok(connection),
                Err(NoConnection::Closed) if !old && server.is_program() => self.old.store(true, Ordering::Relaxed),
                Err(NoConnection::Confused) if !old => self.old.store(true, Ordering::Relaxed),
                Err(NoConnection::Confused) => {
                    self.old.store(false, Ordering::Relaxed);
                    return Err("the server does not begin as the protocol says".to_owned());
                }
                Err(NoConnection::Closed) => {
                    self.old.store(false, Ordering::Relaxed);
                    if server.is_program() {
                        fate.settled().await;
                    }
                    return Err(fate.reason());
                }
                Err(NoConnection::Failed(reason)) => return Err(reason),
                Err(NoConnection::Unauthorized) => {
                    return Err(format!(
                        "it wants a token that is missing or no longer good; `agentrunner tools login {}` gets one",
                        server.name
                    ));
                }
            }
        }
    }

    /// Lists the tools anew whenever the server says that they changed.
    fn watch(&self, connection: &Arc<Connection>) {
        let (server, connection) = (self.server.clone(), Arc::clone(connection));
        tokio::spawn(async move {
            let mut subscription = connection.subscribe().await;
            while connection.tools_changed(&mut subscription).await {
                tokio::time::sleep(SETTLE).await;
                let Some(server) = server.upgrade() else { return };
                match tokio::time::timeout(server.startup_timeout, connection.list()).await {
                    Ok(Ok(listing)) => {
                        if let Err(error) = server.observe(&listing, &connection).await {
                            tracing::warn!(server = %server.name, %error, "the tools of a server could not be kept");
                        }
                    }
                    Ok(Err(_)) => {}
                    Err(_) => connection.fate.broken("the server says that its tools changed, and does not list them"),
                }
            }
        });
    }

    /// Lists the tools of the live connection anew.
    pub(crate) async fn relist(self: &Arc<Self>) -> Result<(), String> {
        let connection = self.connect().await?;
        let Some(server) = self.server.upgrade() else { return Ok(()) };
        let listed = tokio::time::timeout(server.startup_timeout, connection.list()).await;
        match listed {
            Ok(Ok(listing)) => server.observe(&listing, &connection).await.map_err(|error| error.to_string()),
            Ok(Err(lost)) => Err(format!("its tools could not be listed: {lost:?}")),
            Err(_) => Err("it did not list its tools in time".to_owned()),
        }
    }

    /// Says how it is, without waiting.
    pub(crate) fn condition(&self) -> Condition {
        let Ok(slot) = self.slot.try_lock() else { return Condition::Starting };
        match (&slot.live, &slot.paused) {
            (Some((connection, _)), _) if !connection.is_over() => Condition::Ready(connection.protocol()),
            (Some((connection, _)), _) => Condition::Unavailable(connection.fate.reason()),
            (None, Some((_, reason))) => Condition::Unavailable(reason.clone()),
            (None, None) => Condition::Idle,
        }
    }

    /// Ends it; the next call starts it again.
    pub(crate) async fn close(&self) {
        let mut slot = self.slot.lock().await;
        if let Some((connection, _)) = slot.live.take() {
            connection.close().await;
        }
        (slot.failures, slot.paused) = (0, None);
    }
}
