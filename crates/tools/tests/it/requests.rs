//! Requests: what a model may say in them, and what the platform adds.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tools::ToolReply;

use crate::support::{Caller, Server, ok, opened, within};

async fn server() -> (Server, Caller) {
    let server = Server::answering(|_| ok("")).await;
    let caller = Caller::http(&json!({}), opened(&[server.address]));
    (server, caller)
}

#[tokio::test]
async fn a_repeated_call_carries_the_same_key_and_another_call_another() {
    let (server, caller) = server().await;
    for (method, key) in
        [("POST", "task/1"), ("POST", "task/1"), ("PUT", "task/2"), ("PATCH", "task/3"), ("DELETE", "task/4")]
    {
        let arguments = json!({ "method": method, "url": server.url("/"), "body": { "a": 1 } });
        let reply = caller.call_with_key("http_request", arguments, key).await.expect("an answer");
        assert!(matches!(reply, ToolReply::Done(_)));
    }
    let seen = server.requests();
    let keys: Vec<_> = seen.iter().map(|seen| seen.header("idempotency-key").expect("a key")).collect();
    assert_eq!(keys, ["task/1", "task/1", "task/2", "task/3", "task/4"]);
}

#[tokio::test]
async fn a_look_carries_no_key() {
    let (server, caller) = server().await;
    for method in ["GET", "HEAD", "OPTIONS"] {
        caller.fetch(json!({ "method": method, "url": server.url("/") })).await;
    }
    assert_eq!(server.requests().len(), 3);
    assert!(server.requests().iter().all(|seen| seen.header("idempotency-key").is_none()));
}

#[tokio::test]
async fn headers_and_body_arrive_as_the_model_wrote_them() {
    let (server, caller) = server().await;
    let headers = json!({ "X-Api-Key": "k", "content-type": "application/vnd.api+json", "User-Agent": "mine" });
    caller.fetch(json!({ "method": "PUT", "url": server.url("/a"), "headers": headers, "body": [1, "ä"] })).await;
    let [seen] = &server.requests()[..] else { panic!("one request") };
    assert_eq!(seen.line, "PUT /a HTTP/1.1");
    assert_eq!(seen.header("x-api-key"), Some("k"));
    assert_eq!(seen.header("content-type"), Some("application/vnd.api+json"));
    assert_eq!(seen.header("user-agent"), Some("mine"));
    assert_eq!(seen.body, "[1,\"ä\"]".as_bytes());
}

#[tokio::test]
async fn headers_that_would_change_the_request_itself_are_refused() {
    let (server, caller) = server().await;
    for (name, value) in [
        ("Host", "internal.test"),
        ("host", "internal.test"),
        ("Content-Length", "5"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "close"),
        ("Idempotency-Key", "mine"),
        ("Metadata-Flavor", "Google"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-A", "b\r\nHost: internal.test"),
        ("X-A", "b\n\nGET / HTTP/1.1"),
        ("X-A\r\nX-B", "c"),
    ] {
        let arguments = json!({ "method": "POST", "url": server.url("/"), "headers": { name: value }, "body": "x" });
        let error = caller.refused(arguments).await;
        assert_eq!(error.code, "invalid_header", "{name}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_body_over_the_limit_is_not_sent() {
    let (server, caller) = server().await;
    let parts: Vec<Value> = (0..3).map(|_| json!("ä".repeat(200_000))).collect();
    let error = caller.refused(json!({ "method": "POST", "url": server.url("/"), "body": parts })).await;
    assert_eq!(error.code, "body_too_large");
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn many_calls_at_once_each_get_their_own_answer() {
    let server = Server::answering(|seen| ok(seen.path())).await;
    let caller = Arc::new(Caller::http(&json!({}), opened(&[server.address])));
    let mut calls = JoinSet::new();
    for n in 0..32 {
        let (caller, url) = (Arc::clone(&caller), server.url(&format!("/{n}")));
        calls.spawn(async move { (n, caller.fetch(json!({ "method": "GET", "url": url })).await) });
    }
    let answers = within("every answer", calls.join_all()).await;
    assert_eq!(answers.len(), 32);
    for (n, answer) in answers {
        assert_eq!(answer["body"], format!("/{n}"));
    }
}
