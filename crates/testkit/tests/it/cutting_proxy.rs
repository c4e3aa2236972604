//! The proxy carries everything but what it is told to cut.

use testkit::cutting_proxy::{Cut, CuttingProxy, Says};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server that says everything again.
async fn echo() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    port
}

async fn said_again(proxy: &CuttingProxy, words: &[&str]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.expect("it listens");
    let mut heard = Vec::new();
    let mut chunk = [0; 64];
    for word in words {
        if stream.write_all(word.as_bytes()).await.is_err() {
            break;
        }
        match stream.read(&mut chunk).await {
            Ok(length @ 1..) => heard.extend_from_slice(&chunk[..length]),
            Ok(0) | Err(_) => break,
        }
    }
    String::from_utf8(heard).expect("text")
}

#[tokio::test]
async fn without_rules_everything_passes() {
    let proxy = CuttingProxy::start(echo().await).await.expect("it starts");
    assert_eq!(said_again(&proxy, &["one", "two"]).await, "onetwo");
    assert_eq!(proxy.cuts(), 0);
}

#[tokio::test]
async fn a_connection_is_cut_before_the_bytes_once_and_also_when_they_come_in_two_parts() {
    let proxy = CuttingProxy::start(echo().await).await.expect("it starts");
    proxy.cut_at(Says::Client, b"COMMIT", Cut::Before, 1);
    assert_eq!(said_again(&proxy, &["BEGIN;COM", "MIT;more"]).await, "BEGIN;COM");
    assert_eq!(proxy.cuts(), 1);
    assert_eq!(said_again(&proxy, &["COMMIT"]).await, "COMMIT");
}

#[tokio::test]
async fn an_answer_that_is_cut_after_its_bytes_ends_with_them() {
    let proxy = CuttingProxy::start(echo().await).await.expect("it starts");
    proxy.cut_at(Says::Server, b"ack", Cut::After, 1);
    assert_eq!(said_again(&proxy, &["an ack and more", "lost"]).await, "an ack");
}

#[tokio::test]
async fn all_connections_can_be_severed() {
    let proxy = CuttingProxy::start(echo().await).await.expect("it starts");
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.expect("it listens");
    stream.write_all(b"x").await.expect("it reads");
    let mut chunk = [0; 8];
    assert_eq!(stream.read(&mut chunk).await.expect("an answer"), 1);
    proxy.sever();
    assert_eq!(stream.read(&mut chunk).await.unwrap_or(0), 0);
}
