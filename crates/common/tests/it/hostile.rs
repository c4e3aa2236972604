//! What a hostile or broken client gets: the documented answer, soon, and no more.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::service::{PATIENCE, Service};

async fn refused(service: &Service, path: &str, json: &str) -> Value {
    let response = service.post(path, json).await;
    let body = response.text().await.unwrap();
    serde_json::from_str(&body).unwrap_or_else(|_| panic!("accepted: {body}"))
}

#[tokio::test]
async fn a_declared_giant_body_is_refused_before_it_is_read() {
    let service = Service::start().await;
    let head = "POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let answer = service.raw(format!("{head}content-length: 107374182400\r\n\r\n{{").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("connection: close") && answer.contains("/errors/body-too-large"), "{answer}");
}

#[tokio::test]
async fn an_endless_body_is_refused_at_the_limit() {
    let service = Service::with(|options| options.body_limit = 100_000).await;
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let head = "POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(4096));
    let mut sent = 0_usize;
    // Until the server stops listening.
    while sent < 100 << 20 && stream.write_all(chunk.as_bytes()).await.is_ok() {
        sent += 4096;
    }
    assert!(sent < 100 << 20, "the server reads for ever");
}

#[tokio::test]
async fn a_body_over_the_limit_is_a_problem() {
    let service = Service::with(|options| options.body_limit = 1000).await;
    let fits = format!("{{\"item\":\"{}\"}}", "x".repeat(989));
    assert_eq!(fits.len(), 1000);
    assert_eq!(service.post("/orders", &fits).await.text().await.unwrap(), "0 989");
    let body = refused(&service, "/orders", &format!("{fits} ")).await;
    assert_eq!(body["type"], "/errors/body-too-large");
    assert_eq!(body["detail"], "at most 1000 bytes are accepted");
}

#[tokio::test]
async fn a_megabyte_of_prompt_fits_the_default_limit() {
    let service = Service::start().await;
    let prompt = "\\n".repeat(1 << 20);
    let answer = service.post("/orders", &format!("{{\"item\":\"{prompt}\"}}")).await;
    assert_eq!(answer.text().await.unwrap(), "0 1048576");
}

#[tokio::test]
async fn only_json_in_utf_8_without_encoding_is_taken() {
    let service = Service::start().await;
    let post = |headers: &'static [(&'static str, &'static str)]| {
        let mut request = service.client.post(service.url("/orders")).body(r#"{"item":"x"}"#);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        async { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(post(&[("content-type", "application/json")]).await, 200);
    assert_eq!(post(&[("content-type", "Application/JSON; charset=UTF-8")]).await, 200);
    assert_eq!(post(&[]).await, 415);
    assert_eq!(post(&[("content-type", "text/plain")]).await, 415);
    assert_eq!(post(&[("content-type", "multipart/form-data; boundary=x")]).await, 415);
    assert_eq!(post(&[("content-type", "application/json; charset=utf-7")]).await, 415);
    assert_eq!(post(&[("content-type", "application/json"), ("content-encoding", "gzip")]).await, 415);
    assert_eq!(post(&[("content-type", "application/json"), ("content-type", "text/plain")]).await, 415);
}

#[tokio::test]
async fn json_that_two_parsers_understand_differently_is_refused() {
    let service = Service::start().await;
    let deep = format!("{{\"item\":{}", "[".repeat(100_000));
    for (json, pointer) in [
        (r#"{"item":"a","item":"b"}"#, "/item"),
        (r#"{"item":"\u0000"}"#, "/item"),
        (r#"{"item":"\ud800"}"#, "/item"),
        (r#"{"item":"a","count":1e400}"#, "/count"),
        (r#"{"item":"a","count":1.0}"#, "/count"),
        (r#"{"item":"a","count":256}"#, "/count"),
        (r#"{"item":"a","tenant_id":"b"}"#, "/tenant_id"),
        ("\u{feff}{}", ""),
        ("NaN", ""),
        ("{}", ""),
    ] {
        let body = refused(&service, "/orders", json).await;
        assert_eq!(
            (body["status"].as_u64(), body["errors"][0]["pointer"].as_str()),
            (Some(400), Some(pointer)),
            "{body}"
        );
    }
    let body = refused(&service, "/orders", &deep).await;
    assert_eq!(body["errors"][0]["reason"], "nested deeper than 64 levels");
    let invalid = service.client.post(service.url("/orders")).header("content-type", "application/json");
    let invalid = invalid.body(b"{\"item\":\"\xff\"}".to_vec()).send().await.unwrap();
    assert_eq!(invalid.status(), 400);
}

#[tokio::test]
async fn a_page_that_rebinds_its_name_to_this_machine_is_refused() {
    let service = Service::start().await;
    let answer = service.raw(b"GET /orders/1 HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 421 ") && answer.contains("/errors/misdirected-request"), "{answer}");
    let foreign = service.client.post(service.url("/orders")).header("origin", "http://evil.example");
    assert_eq!(foreign.send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn ambiguous_and_oversized_heads_are_refused() {
    let service = Service::start().await;
    let host = "host: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n";
    let many = "x: y\r\n".repeat(1000);
    let large = format!("x: {}\r\n", "y".repeat(70_000));
    for (head, status) in [
        (format!("POST /orders HTTP/1.1\r\n{host}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}"), "400"),
        (format!("POST /orders HTTP/1.1\r\n{host}transfer-encoding: xchunked\r\n\r\n{{}}"), "400"),
        (format!("GET /orders/1 HTTP/1.1\r\n{host}{many}\r\n"), "431"),
        (format!("GET /orders/1 HTTP/1.1\r\n{host}{large}\r\n"), "431"),
        (format!("GET /orders/1?{} HTTP/1.1\r\n{host}\r\n", "x".repeat(1 << 20)), "4"),
        ("GARBAGE\r\n\r\n".to_owned(), "400"),
    ] {
        let answer = service.raw(head.as_bytes()).await;
        let start = &head[..head.len().min(60)];
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) || answer.is_empty(), "{start}: {answer}");
    }
    assert_eq!(service.get("/health/live").await.status(), 200);
}

#[tokio::test]
async fn length_and_chunks_at_once_never_smuggle_a_second_request() {
    let service = Service::start().await;
    let smuggled = "POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\
                    transfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /orders/99 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let answer = service.raw(smuggled.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn silent_and_slow_connections_are_closed_and_others_are_served() {
    let service = Service::with(|options| options.header_timeout = Duration::from_millis(200)).await;
    let mut slow = Vec::new();
    for start in ["", "P", "PRI", "GET / HT", "GET /orders/1 HTTP/1.1\r\nhost: local"] {
        let mut stream = TcpStream::connect(service.address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    assert_eq!(service.get("/health/live").await.status(), 200);
    for mut stream in slow {
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "the connection stays open");
    }
}

#[tokio::test]
async fn more_connections_than_places_wait_for_their_turn() {
    let service = Service::with(|options| {
        options.max_connections = 2;
        options.header_timeout = Duration::from_millis(200);
    })
    .await;
    let idle: Vec<TcpStream> =
        futures::future::join_all((0..20).map(|_| async { TcpStream::connect(service.address).await.unwrap() })).await;
    assert_eq!(service.get("/health/live").await.status(), 200, "the idle ones are closed one after the other");
    drop(idle);
}

#[tokio::test]
async fn a_field_with_a_giant_name_is_refused_with_a_small_answer() {
    let service = Service::start().await;
    let response = service.post("/orders", &format!("{{\"item\":\"x\",\"{}\":1}}", "é".repeat(500_000))).await;
    assert_eq!(response.status(), 400);
    let body = response.text().await.unwrap();
    assert!(body.len() < 10_000 && body.contains("unknown field"), "{} bytes", body.len());
}
