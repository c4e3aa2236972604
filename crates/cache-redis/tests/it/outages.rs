//! A Redis that is away, comes back, was wiped, freezes, or is full.

use std::time::Duration;

use bytes::Bytes;
use cache::{Cache as _, Limit, Tokens};
use cache_redis::{RedisCache, RedisOptions};
use testkit::servers::own::Redis;
use tokio::time::Instant;

use crate::support::{LONG, cache, key, options, reason, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_starts_without_redis_and_comes_back_by_itself() {
    let mut redis = Redis::start().await;
    redis.kill();
    let cache = cache(&redis.url());
    for _ in 0..5 {
        reason(cache.get(&key("a")).await);
    }
    let began = Instant::now();
    for _ in 0..100 {
        assert!(reason(cache.get(&key("a")).await).contains("left alone"));
    }
    assert!(began.elapsed() < Duration::from_millis(500), "nobody waits for it");
    assert!(reason(cache.ready().await).contains("refused"));

    redis.start_again().await;
    until("the cache comes back", async || cache.put(&key("a"), Bytes::from_static(b"x"), LONG).await.is_ok()).await;
    assert!(cache.ready().await.is_ok());
    assert_eq!(cache.take_tokens(&key("b"), Limit::per_minute(1), 1).await, Ok(Tokens::Granted));
    assert_eq!(cache.first_time(&key("c"), LONG).await, Ok(true));

    // Wiped while connections are open: a cold cache that knows no scripts.
    redis.wipe().await;
    until("the cold cache", async || cache.get(&key("a")).await == Ok(None)).await;
    assert_eq!(cache.take_tokens(&key("b"), Limit::per_minute(1), 1).await, Ok(Tokens::Granted));
    assert_eq!(cache.first_time(&key("c"), LONG).await, Ok(true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_redis_costs_its_time_out_and_soon_nothing() {
    let mut redis = Redis::start().await;
    let options = RedisOptions { timeout: Duration::from_millis(250), ..options(&redis.url()) };
    let cache = RedisCache::new(options).expect("a cache");
    until("a value", async || cache.put(&key("a"), Bytes::from_static(b"x"), LONG).await.is_ok()).await;
    redis.pause();
    let began = Instant::now();
    assert!(reason(cache.get(&key("a")).await).contains("no answer within 250 ms"));
    assert!(began.elapsed() < Duration::from_secs(1));
    until("the circuit opens", async || reason(cache.get(&key("a")).await).contains("left alone")).await;
    redis.resume();
    until("the value", async || cache.get(&key("a")).await.is_ok_and(|value| value.is_some())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_takes_nothing_and_still_answers() {
    let redis = Redis::start().await;
    let cache = cache(&redis.url());
    until("a value", async || cache.put(&key("a"), Bytes::from_static(b"x"), LONG).await.is_ok()).await;
    let client = deadpool_redis::redis::Client::open(redis.url()).expect("a client");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    let mut config = async |name: &str, value: &str| {
        let mut set = deadpool_redis::redis::cmd("CONFIG");
        let _: () = set.arg("SET").arg(name).arg(value).query_async(&mut connection).await.expect("set");
    };
    config("maxmemory-policy", "noeviction").await;
    config("maxmemory", "1mb").await;
    for _ in 0..10 {
        let refused = cache.put(&key("b"), Bytes::from(vec![0; 500_000]), LONG).await;
        let Err(error) = refused else { continue };
        assert!(error.to_string().contains("memory"), "{error}");
    }
    reason(cache.put(&key("b"), Bytes::from(vec![0; 1_000_000]), LONG).await);
    reason(cache.take_tokens(&key("c"), Limit::per_minute(1), 1).await);
    assert_eq!(
        cache.get(&key("a")).await,
        Ok(Some(Bytes::from_static(b"x"))),
        "reading goes on, the circuit stays closed"
    );
    config("maxmemory", "0").await;
    assert!(cache.put(&key("b"), Bytes::from(vec![0; 500_000]), LONG).await.is_ok());
}
