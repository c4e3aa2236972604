//! A file server that misbehaves on request.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How one request is answered.
#[derive(Clone)]
pub(crate) enum Reply {
    /// The file, or the part that was asked for.
    File,
    /// The file, cut off after so many bytes of it.
    Cut(usize),
    /// The whole file without saying how long it is.
    Endless,
    /// Another address.
    Redirect(String),
    /// A status and nothing else.
    Status(u16),
}

pub(crate) struct Server {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers the first request with the first reply and so on, and all further ones with the last.
    pub(crate) async fn start(file: Vec<u8>, etag: &'static str, replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            for index in 0.. {
                let (socket, _) = listener.accept().await.unwrap();
                let reply = replies[index.min(replies.len() - 1)].clone();
                let request = answer(socket, &file, etag, reply).await;
                seen.lock().unwrap().push(request);
            }
        });
        Self { url, requests }
    }

    /// The requests so far, in lower case.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn answer(mut socket: TcpStream, file: &[u8], etag: &str, reply: Reply) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let byte = socket.read_u8().await.unwrap();
        request.push(byte);
    }
    let request = String::from_utf8(request).unwrap().to_lowercase();
    let header =
        |name: &str| request.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
    let unchanged = header("if-range").is_none_or(|tag| tag == etag);
    let from: usize = header("range")
        .filter(|_| unchanged)
        .map_or(0, |range| range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap());
    let body = &file[from.min(file.len())..];
    let head = match (&reply, from) {
        (Reply::Redirect(to), _) => format!("302 Found\r\nlocation: {to}\r\ncontent-length: 0"),
        (Reply::Status(status), _) => format!("{status} No\r\ncontent-length: 0"),
        (Reply::Endless, _) => "200 OK".to_owned(),
        (_, 0) => format!("200 OK\r\netag: {etag}\r\ncontent-length: {}", file.len()),
        (_, from) => format!(
            "206 Partial Content\r\netag: {etag}\r\ncontent-length: {}\r\ncontent-range: bytes {from}-{}/{}",
            body.len(),
            file.len() - 1,
            file.len()
        ),
    };
    let sent = match reply {
        Reply::File => body,
        Reply::Endless => file,
        Reply::Cut(after) => &body[..after.min(body.len())],
        Reply::Redirect(_) | Reply::Status(_) => &[],
    };
    // The client may hang up early, which is for the test to judge.
    let _ = socket.write_all(format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n").as_bytes()).await;
    let _ = socket.write_all(sent).await;
    let _ = socket.shutdown().await;
    request
}
