//! HTTP requests to the last byte: what no client library would send.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// How long an answer may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);
const PIECE: usize = 64 * 1024;

/// A body that may be far larger than what is held in memory.
#[derive(Clone)]
pub(crate) struct Body {
    before: Arc<[u8]>,
    unit: Arc<[u8]>,
    times: usize,
    after: Arc<[u8]>,
}

impl Body {
    pub(crate) fn bytes(bytes: impl AsRef<[u8]>) -> Self {
        Self { before: bytes.as_ref().into(), unit: [].into(), times: 0, after: [].into() }
    }

    pub(crate) fn text(text: &str) -> Self {
        Self::bytes(text)
    }

    /// `unit` so many times between two texts.
    pub(crate) fn repeat(before: &str, unit: &str, times: usize, after: &str) -> Self {
        let (unit, after) = (unit.as_bytes().into(), after.as_bytes().into());
        Self { before: before.as_bytes().into(), unit, times, after }
    }

    fn len(&self) -> usize {
        self.before.len() + self.unit.len() * self.times + self.after.len()
    }

    /// Hands the bytes on in pieces, as long as they are taken.
    fn write(&self, mut take: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
        if !self.before.is_empty() {
            take(&self.before)?;
        }
        let at_once = (PIECE / self.unit.len().max(1)).max(1);
        let piece = self.unit.repeat(at_once.min(self.times));
        for _ in 0..self.times / at_once {
            take(&piece)?;
        }
        let rest = self.unit.repeat(self.times % at_once);
        for piece in [rest.as_slice(), &self.after] {
            if !piece.is_empty() {
                take(piece)?;
            }
        }
        Ok(())
    }
}

/// A request.
#[derive(Clone)]
pub(crate) struct Request {
    method: String,
    path: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Option<Body>,
    chunked: bool,
    declared: Option<u64>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    /// 0 when the connection was closed without an answer.
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        let (method, path) = (method.to_owned(), path.to_owned());
        Self { method, path, headers: Vec::new(), body: None, chunked: false, declared: None }
    }

    pub(crate) fn post(path: &str) -> Self {
        Self::new("POST", path)
    }

    /// The same to another place.
    pub(crate) fn to(mut self, method: &str, path: &str) -> Self {
        (self.method, self.path) = (method.to_owned(), path.to_owned());
        self
    }

    /// Sets a header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.also(name, value)
    }

    /// Adds a header, also one that is there already.
    pub(crate) fn also(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn body(mut self, body: Body) -> Self {
        self.body = Some(body);
        self
    }

    /// Sends the body in chunks, without telling its length.
    pub(crate) fn in_chunks(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// Tells another length than the body's.
    pub(crate) fn declared(mut self, length: u64) -> Self {
        self.declared = Some(length);
        self
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    fn head(&self, authority: &str) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path).into_bytes();
        let mut line = |name: &str, value: &[u8]| {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                head.extend_from_slice(part);
            }
        };
        if !self.has("host") {
            line("host", authority.as_bytes());
        }
        line("connection", b"close");
        for (name, value) in &self.headers {
            line(name, value);
        }
        if self.chunked {
            line("transfer-encoding", b"chunked");
        } else if let Some(length) = self.declared.or(self.body.as_ref().map(|body| body.len() as u64)) {
            line("content-length", length.to_string().as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    /// Sends it to `http://authority`, and reads the answer while it still sends.
    pub(crate) async fn send(self, url: &str) -> Answer {
        let authority = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        tokio::task::spawn_blocking(move || self.send_now(&authority)).await.expect("the request is sent")
    }

    fn send_now(self, authority: &str) -> Answer {
        let stream = TcpStream::connect(authority).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        let mut writer = stream.try_clone().expect("a socket");
        let head = self.head(authority);
        let sender = std::thread::spawn(move || {
            // The server may have heard enough before the end.
            let _ = self.send_all(&mut writer, &head);
        });
        let mut received = Vec::new();
        let mut stream = stream;
        let mut piece = [0; 8192];
        while let Ok(length @ 1..) = stream.read(&mut piece) {
            received.extend_from_slice(&piece[..length]);
            if is_complete(&received) {
                break;
            }
        }
        let _ = stream.shutdown(std::net::Shutdown::Both);
        sender.join().expect("the sender");
        Answer::parse(&received)
    }

    fn send_all(&self, writer: &mut TcpStream, head: &[u8]) -> std::io::Result<()> {
        writer.write_all(head)?;
        // A client that asked first would wait for the word to go on; this one finds out that it never comes.
        let Some(body) = self.body.as_ref().filter(|_| !self.has("expect")) else { return Ok(()) };
        if !self.chunked {
            return body.write(|piece| writer.write_all(piece));
        }
        body.write(|piece| {
            writer.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
            writer.write_all(piece)?;
            writer.write_all(b"\r\n")
        })?;
        writer.write_all(b"0\r\n\r\n")
    }
}

/// The end of the first head that is not an interim one.
fn head_of(received: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = received.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = (&received[..end], &received[end + 4..]);
    if head.starts_with(b"HTTP/1.1 1") { head_of(body) } else { Some((head, body)) }
}

fn is_complete(received: &[u8]) -> bool {
    let Some((head, body)) = head_of(received) else { return false };
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    match length {
        Some(length) => body.len() >= length,
        // An event stream has no end; its head says enough.
        None => head.contains("text/event-stream") || body.ends_with(b"0\r\n\r\n"),
    }
}

impl Answer {
    fn parse(received: &[u8]) -> Self {
        let Some((head, body)) = head_of(received) else {
            return Self { status: 0, headers: Vec::new(), body: String::new() };
        };
        let head = String::from_utf8_lossy(head);
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        let body = if chunked { unchunked(body) } else { body.to_vec() };
        Self { status, headers, body: String::from_utf8_lossy(&body).into_owned() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let length = std::str::from_utf8(&rest[..end]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let Some(length @ 1..) = length else { break };
        let from = end + 2;
        body.extend_from_slice(&rest[from.min(rest.len())..(from + length).min(rest.len())]);
        rest = &rest[(from + length + 2).min(rest.len())..];
    }
    body
}
