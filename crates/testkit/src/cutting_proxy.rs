//! A TCP proxy that cuts a connection at the moment when certain bytes pass: the only way to lose an answer, and nothing
//! but the answer, on purpose.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Who says the bytes at which a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// The client.
    Client,
    /// The server.
    Server,
}

/// Where the bytes end up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// They are delivered, and nothing that follows is.
    After,
    /// They are lost, too.
    Before,
}

struct Rule {
    says: Says,
    bytes: Vec<u8>,
    cut: Cut,
    left: u32,
}

struct Shared {
    rules: Mutex<Vec<Rule>>,
    made: Mutex<u32>,
    /// Counts up whenever everything that is open is to be cut.
    severed: watch::Sender<u32>,
}

/// A proxy in front of a server of loopback. It stops when it is dropped.
pub struct CuttingProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl CuttingProxy {
    /// Listens on a free port, and carries everything to `port`.
    pub async fn start(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared =
            Arc::new(Shared { rules: Mutex::new(Vec::new()), made: Mutex::new(0), severed: watch::channel(0).0 });
        let rules = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, port, Arc::clone(&rules)));
            }
        });
        Ok(Self { address, shared, accepting })
    }

    /// The port at which it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Cuts the connection in which `bytes` pass, the next `times` times; other connections stay.
    pub fn cut_at(&self, says: Says, bytes: &[u8], cut: Cut, times: u32) {
        lock(&self.shared.rules).push(Rule { says, bytes: bytes.to_vec(), cut, left: times });
    }

    /// How many connections were cut at their bytes so far.
    pub fn cuts(&self) -> u32 {
        *lock(&self.shared.made)
    }

    /// Cuts all connections that are open now.
    pub fn sever(&self) {
        self.shared.severed.send_modify(|times| *times += 1);
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.sever();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn carry(client: TcpStream, port: u16, shared: Arc<Shared>) {
    let mut severed = shared.severed.subscribe();
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Whichever ends first ends the other, too: both halves of both connections are dropped.
    tokio::select! {
        () = pass(from_client, to_server, Says::Client, &shared) => {}
        () = pass(from_server, to_client, Says::Server, &shared) => {}
        _ = severed.changed() => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, says: Says, shared: &Shared) {
    let mut chunk = vec![0; 64 << 10];
    // The end of what passed before: bytes may be split anywhere.
    let mut tail: Vec<u8> = Vec::new();
    loop {
        let Ok(length @ 1..) = from.read(&mut chunk).await else { return };
        let seen = [&tail, &chunk[..length]].concat();
        let cut = find(shared, says, &seen);
        let pass = match cut {
            None => length,
            Some((_, end, Cut::After)) => end.saturating_sub(tail.len()).min(length),
            Some((start, _, Cut::Before)) => start.saturating_sub(tail.len()),
        };
        if to.write_all(&chunk[..pass]).await.is_err() || cut.is_some() {
            return;
        }
        tail = seen[seen.len().saturating_sub(LONGEST)..].to_vec();
    }
}

/// Bytes to look for are shorter than this.
const LONGEST: usize = 63;

/// Where the first rule that applies finds its bytes; it has then been used once.
fn find(shared: &Shared, says: Says, seen: &[u8]) -> Option<(usize, usize, Cut)> {
    let mut rules = lock(&shared.rules);
    let rule = rules.iter_mut().find_map(|rule| {
        let applies = rule.left > 0 && rule.says == says;
        let at = applies.then(|| seen.windows(rule.bytes.len()).position(|window| window == rule.bytes))??;
        Some((rule, at))
    });
    let (rule, at) = rule?;
    rule.left -= 1;
    *lock(&shared.made) += 1;
    Some((at, at + rule.bytes.len(), rule.cut))
}
