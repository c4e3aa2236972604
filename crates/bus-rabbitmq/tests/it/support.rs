//! What the tests share.

use std::future::Future;
use std::time::Duration;

use bus::{BusError, WorkQueue};
use bus_rabbitmq::{RabbitOptions, RabbitQueue};
use domain::{ExecutionMode, ReadyTask, TaskId};
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::time::Instant;
use uuid::Uuid;

pub(crate) const MODE: ExecutionMode = ExecutionMode::Autonomous;
pub(crate) const QUEUE: &str = "tasks.autonomous";
pub(crate) const DEAD: &str = "tasks.dead";
/// Long enough for a loaded machine that starts an Erlang at the same time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) async fn fresh_vhost() -> String {
    testkit::servers::rabbitmq().await.fresh_vhost().await
}

pub(crate) fn options(url: &str) -> RabbitOptions {
    RabbitOptions::from_url(url).expect("a URL")
}

pub(crate) fn queue(url: &str) -> RabbitQueue {
    RabbitQueue::start(options(url))
}

pub(crate) fn ready(number: u128, priority: u8) -> ReadyTask {
    ReadyTask { task: TaskId(Uuid::from_u128(number)), mode: MODE, priority }
}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not happen in time"))
}

/// Takes the next task for good; its number.
pub(crate) async fn take(queue: &RabbitQueue) -> u128 {
    let delivery = within("a delivery", queue.next(MODE)).await.expect("a task");
    let number = delivery.task.task.0.as_u128();
    delivery.done();
    number
}

/// Announces until it works.
pub(crate) async fn announce(queue: &RabbitQueue, tasks: &[ReadyTask]) {
    within("an announcement", async {
        while queue.announce(tasks).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "{what} did not happen in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn reason(result: Result<(), BusError>) -> String {
    match result {
        Err(BusError::Unavailable(reason)) => reason,
        other => panic!("expected to be unavailable, got {other:?}"),
    }
}

/// A connection of somebody else's.
pub(crate) async fn stranger(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}
