//! The pages that a hijacked model reads, and a trap that nobody may call.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Serves pages by their path; `/redirect/HOST:PORT` and `/redirect-twice/HOST:PORT` send their reader away.
pub(crate) struct Library {
    pub(crate) address: SocketAddr,
    pages: Arc<Mutex<HashMap<String, String>>>,
    asked: Arc<Mutex<String>>,
    server: JoinHandle<()>,
}

impl Library {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let pages: Arc<Mutex<HashMap<String, String>>> = Arc::default();
        let asked: Arc<Mutex<String>> = Arc::default();
        let (served, heard) = (Arc::clone(&pages), Arc::clone(&asked));
        let server = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (served, heard) = (Arc::clone(&served), Arc::clone(&heard));
                tokio::spawn(async move { answer(socket, address, &served, &heard).await.ok() });
            }
        });
        Self { address, pages, asked, server }
    }

    /// Serves a page under a path.
    pub(crate) fn put(&self, path: &str, page: String) {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), page);
    }

    /// All that was ever asked, heads and bodies.
    pub(crate) fn asked(&self) -> String {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    mut socket: TcpStream,
    own: SocketAddr,
    pages: &Mutex<HashMap<String, String>>,
    asked: &Mutex<String>,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        if socket.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    asked.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
    let path = text.split(' ').nth(1).unwrap_or("/");
    let head = |status: &str, extra: &str, length: usize| {
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\n{extra}content-length: {length}\r\nconnection: close\r\n\r\n"
        )
    };
    let answer = if let Some(target) = path.strip_prefix("/redirect-twice/") {
        head("302 Found", &format!("location: http://{own}/redirect/{target}\r\n"), 0)
    } else if let Some(target) = path.strip_prefix("/redirect/") {
        head("307 Temporary Redirect", &format!("location: http://{target}/\r\n"), 0)
    } else {
        let page = pages.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        let page = page.unwrap_or_else(|| "nothing to see here".to_owned());
        head("200 OK", "", page.len()) + &page
    };
    socket.write_all(answer.as_bytes()).await?;
    socket.shutdown().await
}

/// Counts every connection to a port of this machine, on IPv4 and, where there is one, IPv6.
pub(crate) struct Trap {
    pub(crate) address: SocketAddr,
    calls: Arc<AtomicU64>,
    servers: Vec<JoinHandle<()>>,
}

impl Trap {
    pub(crate) async fn set() -> Self {
        // A port that tools may call on public hosts, so that the address alone stops them.
        let mut listener = None;
        for port in [8080, 8443, 0] {
            if let Ok(bound) = TcpListener::bind(("127.0.0.1", port)).await {
                listener = Some(bound);
                break;
            }
        }
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let calls: Arc<AtomicU64> = Arc::default();
        let mut servers = vec![count(listener, Arc::clone(&calls))];
        if let Ok(listener) = TcpListener::bind(("::1", address.port())).await {
            servers.push(count(listener, Arc::clone(&calls)));
        }
        let trap = Self { address, calls, servers };
        // A trap that cannot snap would prove nothing.
        drop(TcpStream::connect(address).await.expect("a connection"));
        while trap.calls() == 0 {
            tokio::task::yield_now().await;
        }
        trap.calls.store(0, Ordering::SeqCst);
        trap
    }

    /// How often anybody connected.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

fn count(listener: TcpListener, calls: Arc<AtomicU64>) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            calls.fetch_add(1, Ordering::SeqCst);
            drop(socket);
        }
    })
}
