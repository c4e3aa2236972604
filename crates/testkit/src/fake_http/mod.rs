//! A real HTTP server on a free port that answers what it is told and misbehaves on demand: the ground under the fakes of
//! model providers.
//!
//! It writes its answers to the socket by itself, so that one can break off at any byte.

mod reply;
mod server;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

pub use reply::Reply;

/// The server; it stops when it is dropped.
pub struct FakeHttp {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// A request that was received.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its method.
    pub method: String,
    /// Its path, with the query.
    pub path: String,
    /// Its headers; names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body; null when there was none or it was not JSON.
    pub body: Value,
    /// Its body, byte by byte.
    pub raw: Vec<u8>,
}

impl Seen {
    /// The first header of a name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What a provider answers by its own rules, before anything that a test has prepared: endpoints of another kind, and
/// requests that the protocol does not allow.
pub type Rules = Box<dyn Fn(&Seen) -> Option<Reply> + Send + Sync>;
type Responder = Box<dyn Fn(&Seen) -> Reply + Send + Sync>;

pub(crate) struct Shared {
    rules: Rules,
    queue: Mutex<VecDeque<Reply>>,
    otherwise: Mutex<Responder>,
    seen: Mutex<Vec<Seen>>,
    arrived: Notify,
}

impl FakeHttp {
    /// Starts on a free port of this machine.
    ///
    /// # Panics
    ///
    /// When there is no free port.
    pub async fn start(rules: Rules, otherwise: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port on this machine");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            rules,
            queue: Mutex::default(),
            otherwise: Mutex::new(Box::new(otherwise)),
            seen: Mutex::default(),
            arrived: Notify::new(),
        });
        let task = tokio::spawn(server::serve(listener, Arc::clone(&shared)));
        Self { address, shared, task }
    }

    /// Where it is, for example `http://127.0.0.1:4711`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers one request that the rules let through; those before it in the queue come first.
    pub fn push(&self, reply: Reply) {
        lock(&self.shared.queue).push_back(reply);
    }

    /// Answers requests for which nothing is in the queue.
    pub fn otherwise(&self, responder: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        *lock(&self.shared.otherwise) = Box::new(responder);
    }

    /// The requests received so far.
    pub fn requests(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// Waits until so many requests were received, and returns them.
    ///
    /// # Panics
    ///
    /// When that takes longer than the deadline.
    pub async fn wait_for_requests(&self, count: usize, deadline: Duration) -> Vec<Seen> {
        let enough = async {
            loop {
                let arrived = self.shared.arrived.notified();
                if lock(&self.shared.seen).len() >= count {
                    return;
                }
                arrived.await;
            }
        };
        let in_time = tokio::time::timeout(deadline, enough).await.is_ok();
        let seen = self.requests();
        assert!(in_time, "{} of {count} requests arrived within {deadline:?}", seen.len());
        seen
    }
}

impl Drop for FakeHttp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    /// Notes a request and chooses its reply.
    pub(crate) fn reply_to(&self, seen: Seen) -> Reply {
        let reply = (self.rules)(&seen).unwrap_or_else(|| {
            let queued = lock(&self.queue).pop_front();
            queued.unwrap_or_else(|| lock(&self.otherwise)(&seen))
        });
        lock(&self.seen).push(seen);
        self.arrived.notify_waiters();
        reply
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
