//! Messages that are not ours, and confirms that never come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bus::WorkQueue as _;
use bus_rabbitmq::{RabbitOptions, RabbitQueue};
use lapin::BasicProperties;
use lapin::options::{BasicGetOptions, BasicPublishOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{DEAD, QUEUE, announce, fresh_vhost, options, queue, ready, reason, stranger, take, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_becomes_a_dead_letter_and_holds_nobody_up() {
    let url = fresh_vhost().await;
    let queue = queue(&url);
    announce(&queue, &[ready(1, 5)]).await;
    let (_connection, channel) = stranger(&url).await;
    for body in [&b"poison"[..], b"", b"{\"v\":99}"] {
        let options = BasicPublishOptions::default();
        channel.basic_publish("".into(), QUEUE.into(), options, body, BasicProperties::default()).await.unwrap();
    }
    announce(&queue, &[ready(2, 5)]).await;
    assert_eq!([take(&queue).await, take(&queue).await], [1, 2]);
    let mut dead = Vec::new();
    until("three dead letters", async || {
        let message = channel.basic_get(DEAD.into(), BasicGetOptions { no_ack: true }).await.unwrap();
        message.is_some_and(|message| message.delivery.data == b"{\"v\":99}")
    })
    .await;
    dead.extend(channel.basic_get(DEAD.into(), BasicGetOptions { no_ack: true }).await.unwrap());
    assert!(dead.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_announcement_without_a_confirm_fails_in_time_and_later_ones_work() {
    let url = fresh_vhost().await;
    let broker = options(&url);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mute = Arc::new(AtomicBool::new(false));
    tokio::spawn(proxy(listener, broker.port, Arc::clone(&mute)));
    let queue = RabbitQueue::start(RabbitOptions { port, confirm_timeout: Duration::from_millis(500), ..broker });
    announce(&queue, &[ready(1, 5)]).await;
    mute.store(true, Ordering::SeqCst);
    assert!(reason(queue.announce(&[ready(2, 5)]).await).contains("no confirm within 500 ms"));
    mute.store(false, Ordering::SeqCst);
    announce(&queue, &[ready(3, 5)]).await;
    // The second may have arrived; nobody was told.
    until("the third task", async || take(&queue).await == 3).await;
}

/// Passes everything on, but nothing from the broker while it is mute.
async fn proxy(listener: TcpListener, broker: u16, mute: Arc<AtomicBool>) {
    while let Ok((client, _)) = listener.accept().await {
        let mute = Arc::clone(&mute);
        tokio::spawn(async move {
            let server = TcpStream::connect(("127.0.0.1", broker)).await.expect("the broker");
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move {
                let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
            });
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                if mute.load(Ordering::SeqCst) {
                    // What is lost once is lost for this connection.
                    std::future::pending::<()>().await;
                }
                if to_client.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
        });
    }
}
