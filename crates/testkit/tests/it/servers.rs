//! The servers serve, and do what a fault test needs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use testkit::servers::{self, own, query};

fn psql(url: &str, sql: &str) -> Option<String> {
    query(url, sql).ok()
}

/// Whether a port answers a greeting within half a second.
fn answers(port: u16, greeting: &[u8]) -> bool {
    let patience = Duration::from_millis(500);
    let Ok(mut stream) = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), patience) else {
        return false;
    };
    stream.set_read_timeout(Some(patience)).expect("a time-out");
    stream.write_all(greeting).is_ok() && stream.read(&mut [0; 64]).is_ok_and(|length| length > 0)
}

fn redis(port: u16, words: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.write_all(format!("AUTH testkit\r\n{words}\r\nQUIT\r\n").as_bytes()).expect("it reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it answers");
    text
}

#[tokio::test]
async fn a_fresh_database_is_empty_and_another_than_before() {
    let server = servers::postgres().await;
    let (one, two) = (server.fresh_database().await, server.fresh_database().await);
    assert_ne!(one, two);
    psql(&one, "CREATE TABLE t (n int)").expect("the first takes tables");
    assert_eq!(psql(&two, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").as_deref(), Some("0"));
    assert_eq!(psql(&two, "SHOW fsync").as_deref(), Some("on"));
}

#[tokio::test]
async fn a_fresh_vhost_is_another_than_before() {
    let server = servers::rabbitmq().await;
    assert_ne!(server.fresh_vhost().await, server.fresh_vhost().await);
    assert!(answers(server.port(), b"AMQP\0\0\x09\x01"));
}

#[tokio::test]
async fn a_second_question_finds_the_same_server() {
    assert_eq!(servers::nats().await.url(), servers::nats().await.url());
    assert_eq!(servers::redis().await.url(), servers::redis().await.url());
}

#[tokio::test]
async fn a_killed_postgres_keeps_what_was_committed_and_a_wiped_one_does_not() {
    let mut server = own::Postgres::start().await;
    psql(&server.url(), "CREATE TABLE kept (n int)").expect("it takes tables");
    server.kill();
    assert_eq!(psql(&server.url(), "SELECT 1"), None);
    server.start_again().await;
    assert_eq!(psql(&server.url(), "SELECT count(*) FROM kept").as_deref(), Some("0"));
    server.stop();
    server.start_again().await;
    assert_eq!(psql(&server.url(), "SELECT count(*) FROM kept").as_deref(), Some("0"));
    server.wipe().await;
    assert_eq!(psql(&server.url(), "SELECT count(*) FROM kept"), None);
}

#[tokio::test]
async fn a_paused_server_is_silent_until_it_is_resumed() {
    let mut server = own::Nats::start().await;
    server.pause();
    assert!(!answers(server.port(), b""));
    server.resume();
    assert!(answers(server.port(), b""));
}

#[tokio::test]
async fn redis_keeps_its_data_over_a_restart_and_loses_it_by_a_wipe() {
    let mut server = own::Redis::start().await;
    assert!(redis(server.port(), "SET key kept").contains("+OK"));
    server.stop();
    server.start_again().await;
    assert!(redis(server.port(), "GET key").contains("kept"));
    server.wipe().await;
    assert!(!redis(server.port(), "GET key").contains("kept"));
}

#[tokio::test]
async fn rabbitmq_comes_back_after_a_kill_and_after_a_wipe() {
    let mut server = own::RabbitMq::start().await;
    server.control(&["add_vhost", "further"]).await;
    server.kill();
    assert!(!answers(server.port(), b"AMQP\0\0\x09\x01"));
    server.start_again().await;
    server.control(&["delete_vhost", "further"]).await;
    server.wipe().await;
    assert!(answers(server.port(), b"AMQP\0\0\x09\x01"));
    server.control(&["list_permissions", "--vhost", "v2"]).await;
}

#[tokio::test]
async fn a_dropped_server_leaves_neither_process_nor_folder() {
    let server = own::Redis::start().await;
    let port = server.port();
    drop(server);
    assert!(!answers(port, b"PING\r\n"));
    let left = std::fs::read_dir(std::env::temp_dir()).expect("a folder").flatten();
    let mine = format!("testkit-redis-{}-", std::process::id());
    assert_eq!(left.filter(|entry| entry.file_name().to_string_lossy().starts_with(&mine)).count(), 0);
}
