//! The suite that every blob store must pass.
//!
//! An adapter's test program calls every one of `cases` with a fresh, empty store. A case panics when the adapter breaks
//! the contract. Nothing here knows an adapter.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::{Blobs, Digest};

/// One rule of the contract.
pub struct Case {
    /// A sentence about behaviour, as an identifier.
    pub name: &'static str,
    run: Run,
}

type Store = Arc<dyn Blobs>;
type Run = fn(Store) -> Pin<Box<dyn Future<Output = ()> + Send>>;

impl Case {
    /// Tries the rule on a fresh store; panics when it does not hold.
    pub async fn run(&self, store: Store) {
        (self.run)(store).await;
    }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        /// All rules.
        pub fn cases() -> Vec<Case> {
            vec![$(Case { name: stringify!($name), run: |store| Box::pin($name(store)) }),*]
        }
    };
}

cases![
    what_was_put_is_found_under_its_digest,
    what_was_never_put_is_not_found,
    empty_and_large_blobs_are_kept_whole,
    the_same_bytes_again_are_one_blob,
    a_blob_is_deleted_once,
    a_deleted_blob_can_be_put_again,
    blobs_are_listed_by_their_age_in_pages,
    a_blob_that_is_put_again_is_young_again,
    only_a_blob_that_nobody_put_since_is_cleared,
    writers_of_the_same_bytes_do_not_disturb_each_other,
    clearing_never_loses_what_is_put_meanwhile,
    the_store_answers,
];

const HOUR: Duration = Duration::from_hours(1);

#[expect(clippy::disallowed_methods, reason = "stores compare with their own clock, the system's")]
fn now() -> SystemTime {
    SystemTime::now()
}

async fn put(store: &Store, text: &str) -> Digest {
    store.put(Bytes::copy_from_slice(text.as_bytes())).await.expect("put")
}

async fn get(store: &Store, digest: &Digest) -> Option<Bytes> {
    store.get(digest).await.expect("get")
}

async fn what_was_put_is_found_under_its_digest(store: Store) {
    let digest = put(&store, "hello").await;
    assert_eq!(digest, *blake3::hash(b"hello").as_bytes());
    assert_eq!(get(&store, &digest).await.as_deref(), Some(&b"hello"[..]));
}

async fn what_was_never_put_is_not_found(store: Store) {
    assert_eq!(get(&store, &[7; 32]).await, None);
    assert!(!store.delete(&[7; 32]).await.expect("delete"));
    assert_eq!(store.older_than(now() + HOUR, None, 10).await.expect("list"), Vec::<Digest>::new());
}

async fn empty_and_large_blobs_are_kept_whole(store: Store) {
    let large: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    for bytes in [Vec::new(), vec![0], large] {
        let digest = store.put(Bytes::from(bytes.clone())).await.expect("put");
        assert!(get(&store, &digest).await.is_some_and(|found| found == bytes), "{} bytes", bytes.len());
    }
}

async fn the_same_bytes_again_are_one_blob(store: Store) {
    let first = put(&store, "same").await;
    assert_eq!(put(&store, "same").await, first);
    assert_eq!(store.older_than(now() + HOUR, None, 10).await.expect("list"), [first]);
}

async fn a_blob_is_deleted_once(store: Store) {
    let (gone, kept) = (put(&store, "gone").await, put(&store, "kept").await);
    assert!(store.delete(&gone).await.expect("delete"));
    assert!(!store.delete(&gone).await.expect("delete"));
    assert_eq!(get(&store, &gone).await, None);
    assert!(get(&store, &kept).await.is_some());
}

async fn a_deleted_blob_can_be_put_again(store: Store) {
    let digest = put(&store, "back").await;
    assert!(store.delete(&digest).await.expect("delete"));
    assert_eq!(put(&store, "back").await, digest);
    assert!(get(&store, &digest).await.is_some());
}

async fn blobs_are_listed_by_their_age_in_pages(store: Store) {
    let mut all = Vec::new();
    for n in 0..7 {
        all.push(put(&store, &format!("blob {n}")).await);
    }
    all.sort_unstable();
    assert_eq!(store.older_than(now() - HOUR, None, 100).await.expect("list"), Vec::<Digest>::new());
    let mut listed: Vec<Digest> = Vec::new();
    loop {
        let page = store.older_than(now() + HOUR, listed.last(), 3).await.expect("list");
        assert!(page.len() <= 3);
        if page.is_empty() {
            break;
        }
        listed.extend(page);
    }
    assert_eq!(listed, all);
}

async fn a_blob_that_is_put_again_is_young_again(store: Store) {
    let digest = put(&store, "touched").await;
    // Stores may keep whole seconds.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let between = now();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(store.older_than(between, None, 10).await.expect("list"), [digest]);
    put(&store, "touched").await;
    assert_eq!(store.older_than(between, None, 10).await.expect("list"), Vec::<Digest>::new());
    assert!(!store.clear(&digest, between).await.expect("clear"));
    assert!(get(&store, &digest).await.is_some());
}

async fn only_a_blob_that_nobody_put_since_is_cleared(store: Store) {
    let digest = put(&store, "young").await;
    assert!(!store.clear(&digest, now() - HOUR).await.expect("clear"));
    assert!(get(&store, &digest).await.is_some());
    assert!(store.clear(&digest, now() + HOUR).await.expect("clear"));
    assert_eq!(get(&store, &digest).await, None);
    assert!(!store.clear(&digest, now() + HOUR).await.expect("clear"));
}

async fn writers_of_the_same_bytes_do_not_disturb_each_other(store: Store) {
    let bytes = Bytes::from(vec![42; 300_000]);
    let puts = (0..16).map(|_| store.put(bytes.clone()));
    let digests = futures::future::try_join_all(puts).await.expect("put");
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(get(&store, &digests[0]).await, Some(bytes));
    assert_eq!(store.older_than(now() + HOUR, None, 10).await.expect("list").len(), 1);
}

async fn clearing_never_loses_what_is_put_meanwhile(store: Store) {
    for round in 0..50 {
        let text = format!("round {round}");
        let digest = put(&store, &text).await;
        // Whatever the order of the two, nobody may clear what was put after this moment.
        tokio::time::sleep(Duration::from_millis(2)).await;
        let moment = now();
        tokio::time::sleep(Duration::from_millis(2)).await;
        let (put, cleared) = tokio::join!(
            tokio::spawn({
                let store = Arc::clone(&store);
                async move { put(&store, &text).await }
            }),
            tokio::spawn({
                let store = Arc::clone(&store);
                async move { store.clear(&digest, moment).await.expect("clear") }
            })
        );
        let (_, _) = (put.expect("put"), cleared.expect("clear"));
        assert!(get(&store, &digest).await.is_some(), "round {round}");
    }
}

async fn the_store_answers(store: Store) {
    store.ping().await.expect("ping");
}
