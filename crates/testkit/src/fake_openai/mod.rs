//! A server that speaks the chat completions protocol and misbehaves on demand.
//!
//! It is a real HTTP server on a free port, so that whatever speaks with it is tested to the last byte; and it writes its
//! answers to the socket by itself, so that one can break off at any of them.
//!
//! ```no_run
//! # async fn example() {
//! use testkit::fake_openai::{FakeOpenAi, Reply};
//!
//! let server = FakeOpenAi::start().await;
//! server.push(Reply::rate_limited("1"));
//! server.push(Reply::text("Hello there."));
//! // Point a client (or `OPENAI_BASE_URL`) at server.base_url() ...
//! assert_eq!(server.requests()[0].path, "/v1/chat/completions");
//! # }
//! ```

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
pub struct FakeOpenAi {
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
}

impl Seen {
    /// The first header of a name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The text of the last message.
    pub fn last_message(&self) -> &str {
        self.body["messages"].as_array().and_then(|all| all.last()?["content"].as_str()).unwrap_or_default()
    }
}

type Responder = Box<dyn Fn(&Seen) -> Reply + Send + Sync>;

pub(crate) struct Shared {
    queue: Mutex<VecDeque<Reply>>,
    otherwise: Mutex<Responder>,
    seen: Mutex<Vec<Seen>>,
    arrived: Notify,
}

impl FakeOpenAi {
    /// Starts on a free port of this machine.
    ///
    /// # Panics
    ///
    /// When there is no free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port on this machine");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            otherwise: Mutex::new(Box::new(|_| Reply::text("ok"))),
            seen: Mutex::default(),
            arrived: Notify::new(),
        });
        let task = tokio::spawn(server::serve(listener, Arc::clone(&shared)));
        Self { address, shared, task }
    }

    /// What a client's base URL must be, for example `http://127.0.0.1:4711/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Answers one chat request; those before it in the queue come first.
    pub fn push(&self, reply: Reply) {
        lock(&self.shared.queue).push_back(reply);
    }

    /// Answers chat requests for which nothing is in the queue; `ok` until this is called.
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

impl Drop for FakeOpenAi {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    /// Notes a request and chooses its reply.
    pub(crate) fn reply_to(&self, seen: Seen) -> Reply {
        let reply = match (seen.method.as_str(), seen.path.as_str()) {
            ("POST", "/v1/chat/completions") => {
                let queued = lock(&self.queue).pop_front();
                queued.unwrap_or_else(|| lock(&self.otherwise)(&seen))
            }
            ("GET", "/v1/models") => Reply::models(&["fake-large", "fake-small"]),
            _ => Reply::error(404, "not_found", "no such path"),
        };
        lock(&self.seen).push(seen);
        self.arrived.notify_waiters();
        reply
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
