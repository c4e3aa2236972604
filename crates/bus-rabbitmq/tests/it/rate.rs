//! How many announcements a second the broker confirms.

use bus::WorkQueue as _;
use futures::StreamExt as _;
use tokio::time::Instant;

use crate::support::{announce, fresh_vhost, queue, ready};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn announcements_a_second() {
    let queue = queue(&fresh_vhost().await);
    announce(&queue, &[ready(0, 5)]).await;
    for (flights, all, batch) in [(1, 300, 1), (64, 10_000, 1), (1, 100, 64)] {
        let began = Instant::now();
        futures::stream::iter(0..all)
            .for_each_concurrent(flights, |number| {
                let tasks: Vec<_> = (0..batch).map(|place| ready(number * batch + place, 5)).collect();
                let queue = queue.clone();
                async move { queue.announce(&tasks).await.expect("confirmed") }
            })
            .await;
        let rate = (all * batch) as f64 / began.elapsed().as_secs_f64();
        println!("{flights} in flight, {batch} a time: {rate:.0} tasks/s");
    }
}
