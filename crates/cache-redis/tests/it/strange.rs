//! Keys that somebody else used, and a password that is wrong.

use bytes::Bytes;
use cache::{Cache as _, Limit, Tokens};
use cache_redis::{RedisCache, RedisOptions};
use deadpool_redis::redis::cmd;

use crate::support::{LONG, key, options, reason};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_of_another_kind_is_a_miss_and_is_deleted() {
    let url = testkit::servers::redis().await.url();
    let options = options(&url);
    let cache = RedisCache::new(options.clone()).expect("a cache");
    let client = deadpool_redis::redis::Client::open(url).expect("a client");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    let name = |key: &cache::Key| format!("{}{key}", options.prefix);
    for name in [name(&key("a")), name(&key("b"))] {
        let _: u32 = cmd("RPUSH").arg(name).arg("x").query_async(&mut connection).await.expect("a list");
    }
    assert_eq!(cache.get(&key("a")).await, Ok(None));
    let there: u32 = cmd("EXISTS").arg(name(&key("a"))).query_async(&mut connection).await.expect("an answer");
    assert_eq!(there, 0);
    assert_eq!(cache.take_tokens(&key("b"), Limit::per_minute(2), 2).await, Ok(Tokens::Granted));
    // What stays has an end.
    cache.put(&key("a"), Bytes::from_static(b"x"), LONG).await.expect("kept");
    for name in [name(&key("a")), name(&key("b"))] {
        let left: i64 = cmd("PTTL").arg(name).query_async(&mut connection).await.expect("an answer");
        assert!(left > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_and_never_printed() {
    let url = testkit::servers::redis().await.url();
    let options = RedisOptions { password: Some("not-the-password".to_owned()), ..options(&url) };
    assert!(!format!("{options:?}").contains("not-the-password"));
    let cache = RedisCache::new(options).expect("a cache");
    let told = reason(cache.ready().await);
    assert!(!told.contains("not-the-password"), "{told}");
    reason(cache.get(&key("a")).await);
}
