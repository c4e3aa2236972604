//! The cache within one process: what the embedded platform uses.
//!
//! Bounded by entries and bytes: what was not used for the longest time makes room. That is allowed to lose a bucket or a
//! window; with the defaults it takes a hundred thousand busier ones to do so.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use crate::{Bucket, Cache, CacheError, Key, Limit, MAX_VALUE, Tokens};

/// What an entry costs beside its key and value, in bytes; about.
const OVERHEAD: usize = 200;

/// The bounds of a cache within one process.
#[derive(Debug, Clone, Copy)]
pub struct MemoryOptions {
    /// How many entries are kept.
    pub entries: usize,
    /// How many bytes they may take together.
    pub bytes: usize,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self { entries: 100_000, bytes: 64 << 20 }
    }
}

/// The cache within one process.
#[derive(Default)]
pub struct Memory {
    options: MemoryOptions,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<Key, Entry>,
    /// The entries by when they were last used.
    used: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
}

struct Entry {
    kept: Kept,
    until: Instant,
    used: u64,
}

enum Kept {
    Value(Bytes),
    Bucket { bucket: Bucket, at: Instant },
    Seen,
}

impl Memory {
    /// Makes an empty cache.
    pub fn new(options: MemoryOptions) -> Self {
        Self { options, inner: Mutex::default() }
    }

    /// How many entries there are, those included whose time is over and which nobody has looked for since.
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Tells whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a bucket, as it is now, and keeps it for as long as it is not full.
    fn change<T>(&self, key: &Key, limit: Limit, change: impl FnOnce(&mut Bucket) -> T) -> T {
        let now = Instant::now();
        let mut inner = self.lock();
        let mut bucket = match inner.find(key, now) {
            Some(Kept::Bucket { bucket, at }) => {
                let mut bucket = *bucket;
                bucket.fill(limit, now.saturating_duration_since(*at));
                bucket
            }
            _ => Bucket::default(),
        };
        let changed = change(&mut bucket);
        inner.insert(key, Kept::Bucket { bucket, at: now }, later(now, limit.time_to_fill(bucket.missing)));
        inner.make_room(self.options);
        changed
    }
}

impl Inner {
    /// Finds what is kept and not over yet, and notes that it was used.
    fn find(&mut self, key: &Key, now: Instant) -> Option<&Kept> {
        if self.entries.get(key).is_some_and(|entry| entry.until <= now) {
            self.remove(key);
        }
        let entry = self.entries.get_mut(key)?;
        self.uses += 1;
        if let Some(key) = self.used.remove(&entry.used) {
            self.used.insert(self.uses, key);
        }
        entry.used = self.uses;
        Some(&entry.kept)
    }

    fn insert(&mut self, key: &Key, kept: Kept, until: Instant) {
        self.remove(key);
        self.uses += 1;
        self.bytes += size(key, &kept);
        self.used.insert(self.uses, key.clone());
        self.entries.insert(key.clone(), Entry { kept, until, used: self.uses });
    }

    fn remove(&mut self, key: &Key) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.used.remove(&entry.used);
        self.bytes -= size(key, &entry.kept);
        Some(entry)
    }

    fn make_room(&mut self, options: MemoryOptions) {
        while (self.entries.len() > options.entries || self.bytes > options.bytes)
            && let Some((_, oldest)) = self.used.pop_first()
        {
            self.remove(&oldest);
        }
    }
}

fn size(key: &Key, kept: &Kept) -> usize {
    let value = if let Kept::Value(value) = kept { value.len() } else { 0 };
    OVERHEAD + 2 * key.as_str().len() + value
}

fn later(now: Instant, time: Duration) -> Instant {
    // Far enough for whoever asks for ever.
    now + time.min(Duration::from_secs(10 * 365 * 86_400))
}

#[async_trait]
impl Cache for Memory {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>, CacheError> {
        Ok(match self.lock().find(key, Instant::now()) {
            Some(Kept::Value(value)) => Some(value.clone()),
            _ => None,
        })
    }

    async fn put(&self, key: &Key, value: Bytes, time_to_live: Duration) -> Result<(), CacheError> {
        if value.len() > MAX_VALUE {
            return Err(CacheError::TooLarge { what: "value", size: value.len(), limit: MAX_VALUE });
        }
        let mut inner = self.lock();
        inner.insert(key, Kept::Value(value), later(Instant::now(), time_to_live));
        inner.make_room(self.options);
        Ok(())
    }

    async fn delete(&self, key: &Key) -> Result<bool, CacheError> {
        let removed = self.lock().remove(key);
        Ok(removed.is_some_and(|entry| entry.until > Instant::now()))
    }

    async fn take_tokens(&self, key: &Key, limit: Limit, amount: u64) -> Result<Tokens, CacheError> {
        Ok(self.change(key, limit, |bucket| bucket.take(limit, amount)))
    }

    async fn settle_tokens(&self, key: &Key, limit: Limit, taken: u64, used: u64) -> Result<(), CacheError> {
        self.change(key, limit, |bucket| bucket.settle(taken, used));
        Ok(())
    }

    async fn first_time(&self, key: &Key, window: Duration) -> Result<bool, CacheError> {
        let now = Instant::now();
        let mut inner = self.lock();
        if let Some(Kept::Seen) = inner.find(key, now) {
            return Ok(false);
        }
        inner.insert(key, Kept::Seen, later(now, window));
        inner.make_room(self.options);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        Key::shared("test", &number.to_string()).unwrap()
    }

    #[tokio::test]
    async fn what_was_not_used_for_the_longest_time_makes_room() {
        let cache = Memory::new(MemoryOptions { entries: 3, bytes: usize::MAX });
        let hour = Duration::from_secs(3_600);
        for number in 0..3 {
            cache.put(&key(number), Bytes::from_static(b"x"), hour).await.unwrap();
        }
        cache.get(&key(0)).await.unwrap();
        cache.put(&key(3), Bytes::from_static(b"x"), hour).await.unwrap();
        let mut left = Vec::new();
        for number in 0..4 {
            if cache.get(&key(number)).await.unwrap().is_some() {
                left.push(number);
            }
        }
        assert_eq!(left, [0, 2, 3]);
    }

    #[tokio::test]
    async fn however_much_is_put_in_the_bounds_hold() {
        let options = MemoryOptions { entries: 50, bytes: 40_000 };
        let cache = Memory::new(options);
        for number in 0..2_000_usize {
            let value = Bytes::from(vec![0; number * 37 % 5_000]);
            cache.put(&key(number % 170), value, Duration::from_secs(60)).await.unwrap();
            cache.first_time(&key(number % 13), Duration::from_secs(60)).await.unwrap();
            let inner = cache.lock();
            assert!(inner.entries.len() <= options.entries && inner.bytes <= options.bytes);
            assert_eq!(inner.entries.len(), inner.used.len());
            let counted: usize = inner.entries.iter().map(|(key, entry)| size(key, &entry.kept)).sum();
            assert_eq!(counted, inner.bytes);
        }
    }
}
