//! A model that counts who is with it, and lets one caller out at a word: what limits on running tasks promise is seen from
//! outside the platform.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use testkit::fake_openai::Reply;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::gate::body_of;
use crate::house::PATIENCE;

/// The server; it stops when it is dropped.
pub(crate) struct Turnstile {
    address: SocketAddr,
    hall: Arc<Hall>,
    server: JoinHandle<()>,
}

struct Hall {
    visits: Mutex<Visits>,
    exits: Semaphore,
}

#[derive(Default)]
struct Visits {
    prompts: Vec<String>,
    inside: usize,
    most: usize,
}

impl Turnstile {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let hall = Arc::new(Hall { visits: Mutex::default(), exits: Semaphore::new(0) });
        let inside = Arc::clone(&hall);
        let server = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let hall = Arc::clone(&inside);
                tokio::spawn(async move { hall.receive(socket).await.ok() });
            }
        });
        Self { address, hall, server }
    }

    /// The base URL of a model.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Answers so many callers, those first who came first.
    pub(crate) fn let_out(&self, count: usize) {
        self.hall.exits.add_permits(count);
    }

    /// The most callers that were there at once.
    pub(crate) fn most(&self) -> usize {
        self.hall.visits.lock().expect("visits").most
    }

    /// The prompts of all callers so far, in the order in which they came.
    pub(crate) fn prompts(&self) -> Vec<String> {
        self.hall.visits.lock().expect("visits").prompts.clone()
    }

    /// Waits until so many callers have come.
    pub(crate) async fn until_came(&self, count: usize) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let prompts = self.prompts();
            if prompts.len() >= count {
                return prompts;
            }
            assert!(Instant::now() < deadline, "{} of {count} came: {prompts:?}", prompts.len());
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Turnstile {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Hall {
    async fn receive(&self, mut socket: TcpStream) -> std::io::Result<()> {
        let Some(body) = body_of(&mut socket).await? else { return Ok(()) };
        let body: Value = serde_json::from_str(&body).unwrap_or_default();
        let prompt = body["messages"].as_array().and_then(|all| all.last()?["content"].as_str()).unwrap_or_default();
        {
            let mut visits = self.visits.lock().expect("visits");
            visits.prompts.push(prompt.to_owned());
            visits.inside += 1;
            visits.most = visits.most.max(visits.inside);
        }
        self.exits.acquire().await.expect("never closed").forget();
        // Before the answer: whoever has it may have been followed by the next one.
        self.visits.lock().expect("visits").inside -= 1;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        socket.write_all(head.as_bytes()).await?;
        socket.write_all(Reply::text("Done.").body()).await?;
        socket.shutdown().await
    }
}
