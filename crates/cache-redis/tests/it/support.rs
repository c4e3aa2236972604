//! What the tests share.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cache::{CacheError, Key};
use cache_redis::{RedisCache, RedisOptions};
use tokio::time::Instant;

pub(crate) const LONG: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn options(url: &str) -> RedisOptions {
    static TESTS: AtomicU32 = AtomicU32::new(0);
    let number = TESTS.fetch_add(1, Ordering::Relaxed);
    let prefix = format!("test-{}-{number}:", std::process::id());
    // A loaded machine is not what these tests are about.
    RedisOptions { prefix, timeout: Duration::from_secs(2), ..RedisOptions::from_url(url).expect("a URL") }
}

pub(crate) fn cache(url: &str) -> RedisCache {
    RedisCache::new(options(url)).expect("a cache")
}

pub(crate) fn key(name: &str) -> Key {
    Key::shared("test", name).expect("a key")
}

pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "{what} did not happen in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn reason<T: std::fmt::Debug>(answer: Result<T, CacheError>) -> String {
    match answer {
        Err(CacheError::Unavailable(reason)) => reason,
        other => panic!("expected to be unavailable, got {other:?}"),
    }
}
