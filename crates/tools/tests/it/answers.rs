//! Answers: bounded in size and time, whatever the server does.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::support::{Caller, Server, ok, opened, response, within};

const LIMIT: usize = 1 << 20;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

#[tokio::test]
async fn an_answer_has_status_some_headers_and_body() {
    let server = Server::answering(|_| {
        let headers =
            "content-type: text/html; charset=iso-8859-1\r\nset-cookie: a=secret\r\nx-internal: b\r\netag: \"c\"\r\n";
        response("404 Not Found", headers, b"caf\xe9")
    })
    .await;
    let caller = Caller::http(&json!({}), opened(&[server.address]));
    let answer = caller.fetch(json!({ "method": "GET", "url": server.url("/a?b=c") })).await;
    assert_eq!(
        answer,
        json!({
            "status": 404,
            "headers": { "content-type": "text/html; charset=iso-8859-1", "etag": "\"c\"" },
            "body": "café",
            "truncated": false
        })
    );
    assert_eq!(server.requests()[0].path(), "/a?b=c");
}

#[tokio::test]
async fn bytes_that_are_no_text_come_as_base64() {
    let server = Server::answering(|_| response("200 OK", "content-type: image/png\r\n", b"\x89PNG\0")).await;
    let caller = Caller::http(&json!({}), opened(&[server.address]));
    let answer = caller.fetch(json!({ "method": "GET", "url": server.url("/") })).await;
    assert_eq!((&answer["body"], &answer["encoding"]), (&json!("iVBORwA="), &json!("base64")));
}

#[tokio::test]
async fn an_answer_is_whole_up_to_the_limit_and_cut_beyond_it() {
    let server = Server::answering(|seen| {
        let size: usize = seen.path().trim_start_matches('/').parse().expect("a size");
        ok("a".repeat(size))
    })
    .await;
    let caller = Caller::http(&json!({}), opened(&[server.address]));
    for (size, kept, truncated) in [(0, 0, false), (LIMIT, LIMIT, false), (LIMIT + 1, LIMIT, true)] {
        let answer = caller.fetch(json!({ "method": "GET", "url": server.url(&format!("/{size}")) })).await;
        assert_eq!(answer["body"].as_str().map(str::len), Some(kept));
        assert_eq!(answer["truncated"], truncated);
    }
}

#[tokio::test]
async fn a_compressed_answer_is_read_and_a_bomb_is_cut() {
    let small = gzip(b"hello");
    let bomb = gzip(&vec![b'a'; 64 << 20]);
    assert!(bomb.len() < LIMIT);
    let server = Server::answering(move |seen| {
        let body = if seen.path() == "/bomb" { &bomb } else { &small };
        response("200 OK", "content-type: text/plain\r\ncontent-encoding: gzip\r\n", body)
    })
    .await;
    let caller = Caller::http(&json!({}), opened(&[server.address]));
    let answer = caller.fetch(json!({ "method": "GET", "url": server.url("/small") })).await;
    assert_eq!((&answer["body"], &answer["truncated"]), (&json!("hello"), &json!(false)));
    let answer = caller.fetch(json!({ "method": "GET", "url": server.url("/bomb") })).await;
    assert_eq!((answer["body"].as_str().map(str::len), &answer["truncated"]), (Some(LIMIT), &json!(true)));
}

#[tokio::test]
async fn an_endless_answer_is_cut_and_its_connection_closed() {
    let (closed, mut on_close) = mpsc::channel(1);
    let server = Server::with("127.0.0.1:0", move |mut stream, _| {
        let closed = closed.clone();
        async move {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
            let chunk = format!("1000\r\n{}\r\n", "a".repeat(0x1000));
            let mut going = stream.write_all(head.as_bytes()).await.is_ok();
            while going {
                going = stream.write_all(chunk.as_bytes()).await.is_ok();
            }
            let _ = closed.send(()).await;
        }
    })
    .await;
    let caller = Caller::http(&json!({}), opened(&[server.address]));
    let answer = caller.fetch(json!({ "method": "GET", "url": server.url("/") })).await;
    assert_eq!((answer["body"].as_str().map(str::len), &answer["truncated"]), (Some(LIMIT), &json!(true)));
    within("the end of the connection", on_close.recv()).await;
}

#[tokio::test]
async fn a_server_that_is_silent_or_drips_runs_into_the_time_out() {
    let server = Server::with("127.0.0.1:0", |mut stream, seen| async move {
        if seen.path() == "/drip" {
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
            let _ = stream.write_all(head.as_bytes()).await;
            while stream.write_all(b"a").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        } else {
            let _ = stream.read(&mut [0]).await;
        }
    })
    .await;
    let caller = Caller::http(&json!({ "timeout": "300ms" }), opened(&[server.address]));
    for path in ["/silent", "/drip"] {
        let call = caller.refused(json!({ "method": "GET", "url": server.url(path) }));
        let error = within("the time-out", call).await;
        assert_eq!(error.code, "timeout", "{path}");
        assert_eq!(error.message, "no complete answer within 300ms");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_is_no_http_is_a_failure() {
    let server = Server::answering(|seen| match seen.path() {
        "/short" => b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc".to_vec(),
        "/garbage" => b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(),
        "/gzip" => response("200 OK", "content-encoding: gzip\r\n", b"not gzip at all"),
        "/headers" => {
            let mut bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
            bytes.extend(std::iter::repeat_n(b"a: b\r\n", 1_000_000).flatten());
            bytes
        }
        _ => Vec::new(),
    })
    .await;
    let caller = Caller::http(&json!({}), opened(&[server.address]));
    for path in ["/short", "/garbage", "/gzip", "/headers", "/nothing"] {
        let error = caller.refused(json!({ "method": "GET", "url": server.url(path) })).await;
        assert_eq!(error.code, "connection_failed", "{path}");
        assert!(error.message.len() < 300 && !error.message.contains("http://"), "{}", error.message);
    }
}

#[tokio::test]
async fn nobody_listening_is_a_failure() {
    let server = Server::answering(|_| ok("")).await;
    let free = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("bound")
    };
    assert_ne!(free, server.address);
    let caller = Caller::http(&json!({}), opened(&[free]));
    let error = caller.refused(json!({ "method": "GET", "url": format!("http://{free}/") })).await;
    assert_eq!(error.code, "connection_failed");
}

#[tokio::test]
async fn a_dropped_call_closes_its_connection() {
    let (arrived, mut on_arrival) = mpsc::channel(1);
    let (closed, mut on_close) = mpsc::channel(1);
    let server = Server::with("127.0.0.1:0", move |mut stream, _| {
        let (arrived, closed) = (arrived.clone(), closed.clone());
        async move {
            let _ = arrived.send(()).await;
            if let Ok(0) | Err(_) = stream.read(&mut [0]).await {
                let _ = closed.send(()).await;
            }
        }
    })
    .await;
    let caller = Caller::http(&json!({}), opened(&[server.address]));
    let url = server.url("/");
    let call = tokio::spawn(async move { caller.call("http_request", json!({ "method": "GET", "url": url })).await });
    within("the request", on_arrival.recv()).await;
    call.abort();
    within("the end of the connection", on_close.recv()).await;
}
