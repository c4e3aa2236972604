//! The suite that every cache must pass, the one within the process included.
//!
//! Each case is a function that takes an empty cache; [`cache`] runs them all. A case fails by panicking, as a test does.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::Namespace;
use futures::future::join_all;
use tokio::time::{Instant, sleep};

use crate::{Cache, CacheError, Key, Limit, MAX_VALUE, Tokens};

/// Longer than a cache on a loaded machine takes for anything.
const LONG: Duration = Duration::from_secs(60);
/// A time that is waited for to be over.
const SHORT: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs all cases; `make` makes an empty cache.
pub async fn cache<F: Future<Output = Arc<dyn Cache>>>(make: impl Fn() -> F) {
    a_value_is_there_until_its_time_is_over(&*make().await).await;
    a_value_takes_the_place_of_the_one_before(&*make().await).await;
    namespaces_and_areas_do_not_see_each_other(&*make().await).await;
    a_value_that_is_too_large_is_refused(&*make().await).await;
    what_is_deleted_is_gone(&*make().await).await;
    a_bucket_gives_what_it_holds_and_then_what_comes(&*make().await).await;
    a_bucket_that_gave_more_than_it_holds_owes_it(&*make().await).await;
    what_was_not_used_goes_back_into_the_bucket(&*make().await).await;
    many_takers_get_no_more_than_the_limit(make().await).await;
    of_many_at_once_exactly_one_is_the_first(make().await).await;
    a_window_ends(&*make().await).await;
    another_use_of_a_key_finds_nothing_there(&*make().await).await;
}

fn key(name: &str) -> Key {
    Key::shared("contract", name).expect("a key")
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "{what} did not happen in time");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn get(cache: &dyn Cache, key: &Key) -> Option<Bytes> {
    cache.get(key).await.expect("an answer")
}

async fn put(cache: &dyn Cache, key: &Key, value: &'static [u8], time: Duration) {
    cache.put(key, Bytes::from_static(value), time).await.expect("kept");
}

/// A value is read as it was put, and not after its time.
pub async fn a_value_is_there_until_its_time_is_over(cache: &dyn Cache) {
    assert_eq!(get(cache, &key("a")).await, None);
    put(cache, &key("a"), b"\0\xff binary", LONG).await;
    put(cache, &key("b"), b"", SHORT).await;
    assert_eq!(get(cache, &key("a")).await.as_deref(), Some(&b"\0\xff binary"[..]));
    let began = Instant::now();
    until("the end of a value", async || get(cache, &key("b")).await.is_none()).await;
    assert!(began.elapsed() < PATIENCE / 2);
    assert!(get(cache, &key("a")).await.is_some());
}

/// A second value, and its time, replace the first.
pub async fn a_value_takes_the_place_of_the_one_before(cache: &dyn Cache) {
    put(cache, &key("a"), b"first", SHORT).await;
    put(cache, &key("a"), b"second", LONG).await;
    sleep(SHORT * 2).await;
    assert_eq!(get(cache, &key("a")).await.as_deref(), Some(&b"second"[..]));
}

/// The same name elsewhere is something else.
pub async fn namespaces_and_areas_do_not_see_each_other(cache: &dyn Cache) {
    let namespace = |name: &str| Namespace::new(name).expect("a namespace");
    let mine = Key::new("values", &namespace("mine"), "name").expect("a key");
    put(cache, &mine, b"x", LONG).await;
    for other in [
        Key::new("values", &namespace("yours"), "name"),
        Key::new("others", &namespace("mine"), "name"),
        Key::shared("values", "mine:name"),
    ] {
        assert_eq!(get(cache, &other.expect("a key")).await, None);
    }
    assert!(get(cache, &mine).await.is_some());
}

/// The largest value passes, a larger one does not and leaves what is there.
pub async fn a_value_that_is_too_large_is_refused(cache: &dyn Cache) {
    let large = Bytes::from(vec![7; MAX_VALUE]);
    cache.put(&key("a"), large.clone(), LONG).await.expect("kept");
    let refused = cache.put(&key("a"), Bytes::from(vec![7; MAX_VALUE + 1]), LONG).await;
    assert!(matches!(refused, Err(CacheError::TooLarge { what: "value", .. })), "{refused:?}");
    assert_eq!(get(cache, &key("a")).await, Some(large));
}

/// Deleting says whether there was something.
pub async fn what_is_deleted_is_gone(cache: &dyn Cache) {
    put(cache, &key("a"), b"x", LONG).await;
    assert!(cache.delete(&key("a")).await.expect("an answer"));
    assert!(!cache.delete(&key("a")).await.expect("an answer"));
    assert_eq!(get(cache, &key("a")).await, None);
}

async fn take(cache: &dyn Cache, limit: Limit, amount: u64) -> Tokens {
    cache.take_tokens(&key("bucket"), limit, amount).await.expect("an answer")
}

/// A full bucket gives all at once; then the time that it names is long enough, and not much too long.
pub async fn a_bucket_gives_what_it_holds_and_then_what_comes(cache: &dyn Cache) {
    let limit = Limit { capacity: 5, per_second: 4.0 };
    assert_eq!(take(cache, limit, 3).await, Tokens::Granted);
    assert_eq!(take(cache, limit, 2).await, Tokens::Granted);
    let Tokens::Wait(wait) = take(cache, limit, 2).await else { panic!("it is empty") };
    assert!(wait > Duration::ZERO && wait <= Duration::from_millis(510), "{wait:?}");
    sleep(wait + Duration::from_millis(5)).await;
    assert_eq!(take(cache, limit, 2).await, Tokens::Granted, "the time that was named is enough");
}

/// More than a bucket holds comes from a full one only, and is missing afterwards.
pub async fn a_bucket_that_gave_more_than_it_holds_owes_it(cache: &dyn Cache) {
    let limit = Limit::per_minute(60);
    assert_eq!(take(cache, limit, 90).await, Tokens::Granted);
    let Tokens::Wait(wait) = take(cache, limit, 1).await else { panic!("it owes") };
    assert!(wait > Duration::from_secs(25) && wait <= Duration::from_secs(31), "{wait:?}");
    assert!(matches!(take(cache, limit, 90).await, Tokens::Wait(wait) if wait > Duration::from_secs(80)));
}

/// A correction counts at once, in both directions.
pub async fn what_was_not_used_goes_back_into_the_bucket(cache: &dyn Cache) {
    let limit = Limit::per_minute(60);
    assert_eq!(take(cache, limit, 60).await, Tokens::Granted);
    cache.settle_tokens(&key("bucket"), limit, 60, 10).await.expect("settled");
    assert_eq!(take(cache, limit, 40).await, Tokens::Granted);
    cache.settle_tokens(&key("bucket"), limit, 40, 70).await.expect("settled");
    assert!(matches!(take(cache, limit, 1).await, Tokens::Wait(wait) if wait > Duration::from_secs(15)));
    cache.settle_tokens(&key("bucket"), limit, 500, 0).await.expect("settled");
    assert_eq!(take(cache, limit, 60).await, Tokens::Granted, "a bucket is never more than full");
    assert_ne!(take(cache, limit, 2).await, Tokens::Granted);
}

/// Callers at the same time share one bucket.
pub async fn many_takers_get_no_more_than_the_limit(cache: Arc<dyn Cache>) {
    let limit = Limit { capacity: 50, per_second: 10.0 };
    let began = Instant::now();
    let takers = (0..200).map(|_| {
        let cache = Arc::clone(&cache);
        tokio::spawn(async move { take(&*cache, limit, 1).await })
    });
    let granted = join_all(takers).await.into_iter().filter(|taken| matches!(taken, Ok(Tokens::Granted))).count();
    let most = 51.0 + began.elapsed().as_secs_f64() * limit.per_second;
    assert!(granted >= 50 && (granted as f64) <= most, "{granted} of at most {most}");
}

/// Of many calls at once exactly one is the first.
pub async fn of_many_at_once_exactly_one_is_the_first(cache: Arc<dyn Cache>) {
    let calls = (0..50).map(|_| {
        let cache = Arc::clone(&cache);
        tokio::spawn(async move { cache.first_time(&key("once"), LONG).await.expect("an answer") })
    });
    let first = join_all(calls).await.into_iter().filter(|first| matches!(first, Ok(true))).count();
    assert_eq!(first, 1);
    assert!(cache.first_time(&key("another"), LONG).await.expect("an answer"));
}

/// After the window something is new again; what is seen again meanwhile does not make it longer.
pub async fn a_window_ends(cache: &dyn Cache) {
    assert!(cache.first_time(&key("once"), SHORT).await.expect("an answer"));
    until("the end of the window", async || cache.first_time(&key("once"), SHORT).await.expect("an answer")).await;
    assert!(!cache.first_time(&key("once"), LONG).await.expect("an answer"));
}

/// A mistake with areas is no error that anybody has to handle.
pub async fn another_use_of_a_key_finds_nothing_there(cache: &dyn Cache) {
    assert_eq!(take(cache, Limit::per_minute(60), 60).await, Tokens::Granted);
    assert_eq!(get(cache, &key("bucket")).await, None);
    put(cache, &key("bucket"), b"a value", LONG).await;
    assert_eq!(take(cache, Limit::per_minute(60), 60).await, Tokens::Granted);
}
