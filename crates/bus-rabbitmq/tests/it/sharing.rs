//! Several consumers of one queue: who gets what, and who keeps it.

use std::collections::BTreeSet;
use std::time::Duration;

use bus::{BusError, WorkQueue as _};
use bus_rabbitmq::{RabbitOptions, RabbitQueue};

use crate::support::{MODE, QUEUE, announce, fresh_vhost, options, queue, ready, stranger, take, until, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_consumers_share_and_nothing_is_delivered_twice() {
    let url = fresh_vhost().await;
    let queues = [queue(&url), queue(&url)];
    let (sender, mut taken) = tokio::sync::mpsc::unbounded_channel();
    for (number, queue) in queues.iter().enumerate() {
        let (queue, sender) = (queue.clone(), sender.clone());
        tokio::spawn(async move {
            loop {
                let task = take(&queue).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
                let _ = sender.send((number, task));
            }
        });
    }
    for chunk in (0..400).collect::<Vec<_>>().chunks(20) {
        let tasks: Vec<_> = chunk.iter().map(|number| ready(*number, 5)).collect();
        announce(&queues[0], &tasks).await;
    }
    let (mut all, mut shares) = (BTreeSet::new(), [0; 2]);
    while all.len() < 400 {
        let (number, task) = within("every task", taken.recv()).await.expect("consumers");
        assert!(all.insert(task), "task {task} came twice");
        shares[number] += 1;
    }
    assert!(shares.iter().all(|share| *share > 40), "{shares:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_pool_keeps_no_tasks_from_an_idle_one() {
    let url = fresh_vhost().await;
    let (full, idle) = (queue(&url), queue(&url));
    let tasks: Vec<_> = (0..10).map(|number| ready(number, 5)).collect();
    announce(&full, &tasks).await;
    // It takes one and then has no capacity left; the broker has handed it all the others.
    let first = within("a delivery", full.next(MODE)).await.expect("a task");
    let mut taken = BTreeSet::from([first.task.task.0.as_u128()]);
    while taken.len() < 10 {
        assert!(taken.insert(take(&idle).await), "a task came twice");
    }
    // A run that has not even been claimed yet is not touched by that.
    first.done();
    until("an empty queue", async || full.depth(MODE) == 0 && idle.depth(MODE) == 0).await;
    announce(&full, &[ready(99, 5)]).await;
    assert_eq!(take(&full).await, 99, "it consumes again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn giving_back_again_and_again_never_makes_a_dead_letter() {
    let url = fresh_vhost().await;
    let options = RabbitOptions { delivery_limit: 4, give_back_after: Duration::from_millis(50), ..options(&url) };
    let queue = RabbitQueue::start(options);
    announce(&queue, &[ready(1, 5), ready(2, 5)]).await;
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        let delivery = within("a delivery", queue.next(MODE)).await.expect("a task");
        seen.insert(delivery.task.task.0.as_u128());
        drop(delivery);
    }
    let both = BTreeSet::from([take(&queue).await, take(&queue).await]);
    assert_eq!((both.len(), seen.len()), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_closed_gives_back_what_it_holds_at_once() {
    let url = fresh_vhost().await;
    let leaving = queue(&url);
    let tasks: Vec<_> = (0..10).map(|number| ready(number, 5)).collect();
    announce(&leaving, &tasks).await;
    let mut taken = BTreeSet::from([take(&leaving).await]);
    let waiting = tokio::spawn({
        let (leaving, mode) = (leaving.clone(), domain::ExecutionMode::Continuous);
        async move { leaving.next(mode).await }
    });
    within("the end", leaving.close()).await;
    assert!(matches!(within("the waiter", waiter_end(waiting)).await, Err(BusError::Closed)));
    assert!(matches!(leaving.announce(&[ready(1, 1)]).await, Err(BusError::Closed)));
    let (_connection, channel) = stranger(&url).await;
    let passive = lapin::options::QueueDeclareOptions::durable().passive();
    let state = channel.queue_declare(QUEUE.into(), passive, lapin::types::FieldTable::default()).await.unwrap();
    assert_eq!((state.message_count(), state.consumer_count()), (9, 0));
    let staying = queue(&url);
    while taken.len() < 10 {
        assert!(taken.insert(take(&staying).await), "what was used is not delivered again");
    }
}

async fn waiter_end(
    waiting: tokio::task::JoinHandle<Result<bus::Delivery, BusError>>,
) -> Result<bus::Delivery, BusError> {
    waiting.await.expect("no panic")
}
