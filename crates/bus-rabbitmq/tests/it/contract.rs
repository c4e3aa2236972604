//! What every work queue must do.

use std::sync::Arc;
use std::time::Duration;

use bus::{WorkQueue, contract};
use bus_rabbitmq::{RabbitOptions, RabbitQueue};

use crate::support::{fresh_vhost, options};

async fn make() -> Arc<dyn WorkQueue> {
    let options = RabbitOptions { give_back_after: Duration::from_secs(5), ..options(&fresh_vhost().await) };
    Arc::new(RabbitQueue::start(options))
}

#[tokio::test]
async fn the_work_queue_keeps_its_contract() {
    contract::work_queue(make).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_work_queue_keeps_its_contract_on_many_threads() {
    contract::work_queue(make).await;
}
