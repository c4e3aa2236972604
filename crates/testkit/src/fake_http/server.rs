//! The little of HTTP/1.1 that the fake needs, written to the socket by hand.

use std::fmt::Write;
use std::io;
use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::reply::{End, Reply};
use super::{Seen, Shared};

const MAX_REQUEST: usize = 64 * 1024 * 1024;

pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else { continue };
                let shared = Arc::clone(&shared);
                // A client that goes away in the middle is part of the tests.
                connections.spawn(async move { let _ = converse(socket, &shared).await; });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(mut socket: TcpStream, shared: &Shared) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while let Some(seen) = read_request(&mut socket, &mut buffer).await? {
        let reply = shared.reply_to(seen);
        if !write_reply(&mut socket, &reply).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads one request; `None` when the client is done.
async fn read_request(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Seen>> {
    let head_end = loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        // Whatever does not begin with a method, such as a greeting of TLS, is not waited for.
        let no_http = buffer.first().is_some_and(|byte| !byte.is_ascii_uppercase());
        if no_http || buffer.len() > MAX_REQUEST || socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let method = first.next().unwrap_or_default().to_owned();
    let path = first.next().unwrap_or_default().to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let total = head_end + 4 + length;
    while buffer.len() < total {
        if total > MAX_REQUEST || socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    let raw = buffer[head_end + 4..total].to_vec();
    let body = serde_json::from_slice(&raw).unwrap_or(Value::Null);
    buffer.drain(..total);
    Ok(Some(Seen { method, path, headers, body, raw }))
}

/// Writes a reply; tells whether the connection may serve another request.
async fn write_reply(socket: &mut TcpStream, reply: &Reply) -> io::Result<bool> {
    if !reply.before.is_zero() {
        tokio::time::sleep(reply.before).await;
    }
    let (sent, goes_on) = match reply.end {
        End::Proper => (reply.body.len(), true),
        End::Broken(at) | End::Silent(at) => (at.min(reply.body.len()), false),
        End::NoHead => {
            wait_for_the_client_to_leave(socket).await;
            return Ok(false);
        }
        End::Closed => return Ok(false),
    };
    let mut head = format!("HTTP/1.1 {} Fake\r\ntransfer-encoding: chunked\r\n", reply.status);
    for (name, value) in &reply.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("\r\n");
    socket.write_all(head.as_bytes()).await?;
    for (index, piece) in reply.body[..sent].chunks(reply.piece).enumerate() {
        if index > 0 && !reply.between.is_zero() {
            tokio::time::sleep(reply.between).await;
        }
        let mut framed = format!("{:x}\r\n", piece.len()).into_bytes();
        framed.extend_from_slice(piece);
        framed.extend_from_slice(b"\r\n");
        socket.write_all(&framed).await?;
        socket.flush().await?;
    }
    match reply.end {
        End::Proper => socket.write_all(b"0\r\n\r\n").await?,
        End::Silent(_) => wait_for_the_client_to_leave(socket).await,
        _ => {}
    }
    Ok(goes_on)
}

async fn wait_for_the_client_to_leave(socket: &mut TcpStream) {
    let mut nothing = [0; 1_024];
    while matches!(socket.read(&mut nothing).await, Ok(read) if read > 0) {}
}
