//! A broker that is away, comes back, was wiped, or takes no messages.

use std::collections::BTreeSet;
use std::time::Duration;

use bus::WorkQueue as _;
use bus_rabbitmq::{RabbitOptions, RabbitQueue};
use testkit::servers::own::RabbitMq;
use tokio::time::Instant;

use crate::support::{MODE, announce, options, queue, ready, reason, take, until, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_outlives_a_killed_broker_and_both_sides_come_back() {
    let mut broker = RabbitMq::start().await;
    let queue = queue(&broker.fresh_vhost().await);
    let taker = {
        let queue = queue.clone();
        tokio::spawn(async move {
            let mut taken = BTreeSet::new();
            while taken.len() < 300 {
                taken.insert(take(&queue).await);
            }
        })
    };
    for number in 0..100 {
        announce(&queue, &[ready(number, 5)]).await;
    }
    let giver = {
        let queue = queue.clone();
        tokio::spawn(async move {
            for number in 100..200 {
                announce(&queue, &[ready(number, 5)]).await;
            }
        })
    };
    broker.kill();
    until("the loss is noticed", async || queue.ready().is_err()).await;
    let began = Instant::now();
    reason(queue.announce(&[ready(1, 5)]).await);
    assert!(began.elapsed() < Duration::from_secs(1), "nobody waits for a broker that is known to be away");
    broker.start_again().await;
    let began = Instant::now();
    until("the queue comes back", async || queue.ready().is_ok()).await;
    println!("back {} ms after the broker", began.elapsed().as_millis());
    within("all announcements", giver).await.unwrap();
    for number in 200..300 {
        announce(&queue, &[ready(number, 5)]).await;
    }
    within("all tasks, however often", taker).await.unwrap();
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_broker_gets_its_queues_again() {
    let mut broker = RabbitMq::start().await;
    let queue = queue(&broker.fresh_vhost().await);
    announce(&queue, &[ready(1, 5)]).await;
    assert_eq!(take(&queue).await, 1);
    announce(&queue, &[ready(2, 5)]).await;
    broker.wipe().await;
    // The record announces again; a waiter may be there before anybody declared the queue.
    let waiter = tokio::spawn({
        let queue = queue.clone();
        async move { take(&queue).await }
    });
    until("the queue comes back", async || queue.ready().is_ok()).await;
    announce(&queue, &[ready(3, 5)]).await;
    assert_eq!(within("the waiter", waiter).await.unwrap(), 3, "what was not taken is gone, and that is all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_down_at_the_start_is_waited_for_and_one_that_freezes_is_noticed() {
    let mut broker = RabbitMq::start().await;
    let url = broker.fresh_vhost().await;
    broker.kill();
    let queue = RabbitQueue::start(RabbitOptions { confirm_timeout: Duration::from_secs(1), ..options(&url) });
    let waiter = tokio::spawn({
        let queue = queue.clone();
        async move { take(&queue).await }
    });
    until("a reason", async || queue.ready().is_err_and(|error| error.to_string().contains("refused"))).await;
    broker.start_again().await;
    let began = Instant::now();
    announce(&queue, &[ready(1, 5)]).await;
    println!("first announcement {} ms after the broker", began.elapsed().as_millis());
    assert_eq!(within("the waiter", waiter).await.unwrap(), 1);

    broker.pause();
    let began = Instant::now();
    assert!(reason(queue.announce(&[ready(2, 5)]).await).contains("no confirm within 1000 ms"));
    assert!(began.elapsed() < Duration::from_secs(3));
    until("the connection is given up", async || queue.ready().is_err()).await;
    broker.resume();
    announce(&queue, &[ready(3, 5)]).await;
    until("the task after the frost", async || take(&queue).await == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_blocks_announcements_with_a_reason_and_leaves_consumers_alone() {
    let broker = RabbitMq::start().await;
    let queue = queue(&broker.fresh_vhost().await);
    let all: Vec<_> = (0..50).map(|number| ready(number, 5)).collect();
    announce(&queue, &all).await;

    broker.control(&["set_vm_memory_high_watermark", "0.0001"]).await;
    let began = Instant::now();
    until("the alarm", async || match queue.announce(&[ready(100, 5)]).await {
        Ok(()) => false,
        result => {
            assert!(reason(result).contains("publishing is blocked"), "{:?}", queue.ready());
            true
        }
    })
    .await;
    println!("blocked after {} ms", began.elapsed().as_millis());
    let began = Instant::now();
    assert!(reason(queue.announce(&[ready(101, 5)]).await).contains("blocked"));
    assert!(began.elapsed() < Duration::from_millis(500), "nobody waits while an alarm is known");
    assert!(reason(queue.ready()).contains("blocked"));
    for _ in 0..50 {
        assert!(take(&queue).await < 50, "consumers go on");
    }

    broker.control(&["set_vm_memory_high_watermark", "0.9"]).await;
    announce(&queue, &[ready(200, 5)]).await;
    until("what was announced after the alarm", async || take(&queue).await == 200).await;
    assert!(queue.ready().is_ok());
    until("an empty queue", async || queue.depth(MODE) == 0).await;
}
