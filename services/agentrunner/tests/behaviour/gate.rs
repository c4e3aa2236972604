//! A server that answers half and then waits for a word: what goes on in the middle of an answer can be looked at for as
//! long as a test likes.

use std::net::SocketAddr;
use std::sync::Arc;

use testkit::fake_openai::Reply;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The server; it stops when it is dropped.
pub(crate) struct Gate {
    pub(crate) address: SocketAddr,
    open: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Gate {
    /// Answers every request with `before`, and with `after` as soon as it is opened.
    async fn start(content_type: &str, before: Vec<u8>, after: Vec<u8>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (open, opened) = watch::channel(false);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\nconnection: close\r\n\r\n");
        let first = Arc::new([head.into_bytes(), before].concat());
        let after = Arc::new(after);
        let server = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (first, after, opened) = (Arc::clone(&first), Arc::clone(&after), opened.clone());
                // A client that goes away is part of the tests.
                tokio::spawn(async move { answer(socket, &first, &after, opened).await.ok() });
            }
        });
        Self { address, open, server }
    }

    /// A server whose answer takes as long as the gate is closed.
    pub(crate) async fn plain() -> Self {
        Self::start("text/plain", b"closed, ".to_vec(), b"open".to_vec()).await
    }

    /// A model that speaks `text` and then holds its breath.
    pub(crate) async fn model(text: &str) -> Self {
        let event = |chunk| format!("data: {chunk}\n\n");
        let before: String = Reply::text_chunks(text).into_iter().map(event).collect();
        let ends = [Reply::finish("stop"), Reply::usage(12, 5)];
        let after: String = ends.into_iter().map(event).chain(["data: [DONE]\n\n".to_owned()]).collect();
        Self::start("text/event-stream", before.into(), after.into()).await
    }

    /// Has everyone who waits, and whoever comes later, answered to the end.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// The base URL of a model.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    mut socket: TcpStream,
    first: &[u8],
    after: &[u8],
    mut opened: watch::Receiver<bool>,
) -> std::io::Result<()> {
    if body_of(&mut socket).await?.is_none() {
        return Ok(());
    }
    socket.write_all(first).await?;
    // The sender lives as long as the test.
    let _ = opened.wait_for(|open| *open).await;
    socket.write_all(after).await?;
    socket.shutdown().await
}

/// Reads a request and returns its body; none when the client left before its end.
pub(crate) async fn body_of(socket: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut request = Vec::new();
    loop {
        if socket.read_buf(&mut request).await? == 0 {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .to_ascii_lowercase()
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return Ok(Some(body.to_owned()));
        }
    }
}
