//! What every cache must do.

use std::sync::Arc;

use cache::{Cache, contract};

use crate::support::cache;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_cache_keeps_its_contract() {
    let redis = testkit::servers::redis().await;
    contract::cache(|| async { Arc::new(cache(&redis.url())) as Arc<dyn Cache> }).await;
}
