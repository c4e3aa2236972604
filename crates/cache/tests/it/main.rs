//! The cache within the process through its port.

use std::sync::Arc;

use cache::{Cache, Memory, contract};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_cache_keeps_its_contract() {
    contract::cache(|| async { Arc::new(Memory::default()) as Arc<dyn Cache> }).await;
}
