//! The sink counts what really arrived, and forgets nothing that it answered.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::Client;
use serde_json::Value;
use testkit::effect_sink::{Count, EffectSink, read_log};

fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().expect("a client")
}

async fn post(client: &Client, address: SocketAddr, path: &str, key: Option<&str>) -> u16 {
    let request = client.post(format!("http://{address}{path}")).body("body");
    let request = if let Some(key) = key { request.header("Idempotency-Key", key) } else { request };
    request.send().await.expect("an answer").status().as_u16()
}

fn start(file: &Path) -> (Child, SocketAddr) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_effect-sink"))
        .arg(file)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let said: Value = serde_json::from_str(&line).expect("JSON");
    (child, said["address"].as_str().expect("an address").parse().expect("an address"))
}

#[tokio::test]
async fn deliveries_and_keys_are_counted() {
    let sink = EffectSink::start(None).await.expect("starts");
    let client = client();
    for (path, key) in [("/pay?a=b", Some("k1")), ("/pay", Some("k1")), ("/pay", Some("k2")), ("/count", None)] {
        assert_eq!(post(&client, sink.address(), path, key).await, 200);
    }
    let expected = Count { deliveries: 4, distinct_keys: 2, without_key: 1 };
    assert_eq!(sink.count(), expected);
    let told: Count =
        client.get(format!("http://{}/count", sink.address())).send().await.expect("sent").json().await.expect("JSON");
    assert_eq!(told, expected);
    let seen: Vec<_> = sink.deliveries().into_iter().map(|one| (one.method, one.path, one.key)).collect();
    let seen: Vec<_> = seen.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
    assert_eq!(seen, [("POST", "/pay", "k1"), ("POST", "/pay", "k1"), ("POST", "/pay", "k2"), ("POST", "/count", "")]);
}

#[tokio::test]
async fn the_caller_chooses_status_and_delay() {
    let sink = EffectSink::start(None).await.expect("starts");
    let client = client();
    assert_eq!(post(&client, sink.address(), "/a?status=503", None).await, 503);
    assert_eq!(post(&client, sink.address(), "/a?delay_ms=1&status=409", None).await, 409);
}

#[tokio::test]
async fn a_delivery_is_recorded_before_it_is_answered() {
    let sink = EffectSink::start(None).await.expect("starts");
    let (client, address) = (client(), sink.address());
    let call = tokio::spawn(async move { post(&client, address, "/slow?delay_ms=600000", Some("k")).await });
    let arrived = async {
        while sink.count().deliveries == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), arrived).await.expect("the delivery arrives");
    assert!(!call.is_finished());
    call.abort();
}

#[tokio::test]
async fn what_a_killed_sink_answered_is_in_its_file_and_counts_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sink.jsonl");
    let client = client();
    let (mut first, address) = start(&file);
    for key in ["k1", "k2"] {
        assert_eq!(post(&client, address, "/pay", Some(key)).await, 200);
    }
    first.kill().expect("killed");
    first.wait().expect("ended");
    let mut torn = std::fs::OpenOptions::new().append(true).open(&file).expect("the file");
    torn.write_all(b"{\"key\":\"to").expect("written");

    let entries = read_log(&file).expect("readable");
    assert_eq!(entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["k1", "k2"]);
    assert_eq!(entries[0].body_digest, blake3::hash(b"body").to_hex().as_str());

    let (mut second, address) = start(&file);
    assert_eq!(post(&client, address, "/pay", Some("k2")).await, 200);
    let lines = client.get(format!("http://{address}/log")).send().await.expect("sent").text().await.expect("text");
    assert_eq!(lines.lines().count(), 3);
    second.kill().expect("killed");
    second.wait().expect("ended");
    assert_eq!(read_log(&file).expect("readable").len(), 3);
}
