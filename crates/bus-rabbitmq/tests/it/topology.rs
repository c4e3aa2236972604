//! Queues and exchanges that somebody deletes, or made otherwise.

use std::time::Duration;

use bus::WorkQueue as _;
use lapin::options::{ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};

use crate::support::{MODE, QUEUE, announce, fresh_vhost, queue, ready, reason, stranger, take, until, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_deleted_under_its_consumer_comes_back() {
    let url = fresh_vhost().await;
    let queue = queue(&url);
    announce(&queue, &[ready(1, 5)]).await;
    assert_eq!(take(&queue).await, 1);
    let waiter = tokio::spawn({
        let queue = queue.clone();
        async move { take(&queue).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (_connection, channel) = stranger(&url).await;
    channel.queue_delete(QUEUE.into(), QueueDeleteOptions::default()).await.unwrap();
    // Returned as no queue takes it, and published again; unless somebody declared it first.
    queue.announce(&[ready(2, 5)]).await.expect("announced at the first attempt");
    assert_eq!(within("the waiter", waiter).await.unwrap(), 2);
}

/// The broker tells the consumer nothing, and takes the first message of the new queue for one that it had already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_whose_queue_others_deleted_and_declared_again_gets_its_messages() {
    let url = fresh_vhost().await;
    let (taker, giver) = (queue(&url), queue(&url));
    announce(&giver, &[ready(1, 5)]).await;
    assert_eq!(take(&taker).await, 1);
    let waiter = tokio::spawn({
        let taker = taker.clone();
        async move { take(&taker).await }
    });
    let (_connection, channel) = stranger(&url).await;
    channel.queue_delete(QUEUE.into(), QueueDeleteOptions::default()).await.unwrap();
    giver.announce(&[ready(2, 5)]).await.expect("announced at the first attempt");
    assert_eq!(within("the waiter", waiter).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_no_queue_takes_is_published_again_after_all_was_declared() {
    let url = fresh_vhost().await;
    let queue = queue(&url);
    announce(&queue, &[ready(1, 5)]).await;
    let (_connection, channel) = stranger(&url).await;
    channel.queue_delete(QUEUE.into(), QueueDeleteOptions::default()).await.unwrap();
    queue.announce(&[ready(2, 5), ready(3, 5)]).await.expect("announced at the first attempt");
    channel.exchange_delete("tasks".into(), ExchangeDeleteOptions::default()).await.unwrap();
    queue.announce(&[ready(4, 5)]).await.expect("announced at the first attempt");
    let mut taken = [take(&queue).await, take(&queue).await, take(&queue).await];
    taken.sort_unstable();
    assert_eq!(taken, [2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_with_other_properties_is_used_and_told_of() {
    let url = fresh_vhost().await;
    let (_connection, channel) = stranger(&url).await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(7));
    channel.queue_declare(QUEUE.into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
    let queue = queue(&url);
    announce(&queue, &[ready(1, 5)]).await;
    assert_eq!(take(&queue).await, 1);
    let told = reason(queue.ready());
    assert!(told.contains(QUEUE) && told.contains("other properties"), "{told}");
    channel.queue_delete(QUEUE.into(), QueueDeleteOptions::default()).await.unwrap();
    until("all is as it should be", async || queue.ready().is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_depth_is_known_without_asking() {
    let url = fresh_vhost().await;
    let queue = queue(&url);
    let tasks: Vec<_> = (0..25).map(|number| ready(number, 5)).collect();
    announce(&queue, &tasks).await;
    until("the depth", async || queue.depth(MODE) == 25).await;
}
