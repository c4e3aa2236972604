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

/// The rules of the user that the compose file has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_platform_s_user_may_do_what_the_cache_does() {
    let rules =
        include_str!("../../../../infra/redis/users.acl").lines().find(|line| line.starts_with("user agentrunner "));
    let rules = rules.expect("the platform's user");
    let url = testkit::servers::redis().await.url();
    let client = deadpool_redis::redis::Client::open(url.as_str()).expect("a client");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    let mut set_user = cmd("ACL");
    set_user.arg("SETUSER").arg("platform").arg("reset").arg(">a-password");
    set_user.arg(rules.split(' ').skip(2).filter(|rule| !rule.starts_with('#')).collect::<Vec<_>>());
    let _: () = set_user.query_async(&mut connection).await.expect("a user");
    let (user, password) = (Some("platform".to_owned()), Some("a-password".to_owned()));
    let cache =
        RedisCache::new(RedisOptions { user, password, prefix: "agentrunner:test:".to_owned(), ..options(&url) })
            .expect("a cache");
    cache.ready().await.expect("it may ask");
    cache.put(&key("a"), Bytes::from_static(b"x"), LONG).await.expect("it may write");
    assert!(cache.get(&key("a")).await.expect("it may read").is_some());
    assert_eq!(cache.take_tokens(&key("b"), Limit::per_minute(2), 2).await, Ok(Tokens::Granted));
    cache.settle_tokens(&key("b"), Limit::per_minute(2), 2, 1).await.expect("it may settle");
    assert_eq!(cache.first_time(&key("c"), LONG).await, Ok(true));
    assert_eq!(cache.delete(&key("a")).await, Ok(true));
}
