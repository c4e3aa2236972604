//! What may be forgotten: cached values, token buckets and de-duplication windows.
//!
//! Nothing here is a record. Losing all of it at any moment costs time: a value is computed again, a bucket is full again,
//! something counts as new again. Whoever uses it says what an error means: a miss for values; for limits and windows
//! what the caller's own rule is.

pub mod contract;
mod error;
mod key;
mod limit;
mod memory;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use error::CacheError;
pub use key::Key;
pub use limit::{Bucket, Limit, Tokens};
pub use memory::{Memory, MemoryOptions};

/// The largest value, in bytes: what is larger belongs to the objects.
pub const MAX_VALUE: usize = 1 << 20;

/// Keeps what may be forgotten. What was put under a key may be gone before its time.
///
/// An area's keys are for one use: values, buckets and windows under the same key disturb each other, and the later use
/// finds nothing there.
#[async_trait]
pub trait Cache: Send + Sync + 'static {
    /// Reads a value; `None` when there is none, or not any more.
    async fn get(&self, key: &Key) -> Result<Option<Bytes>, CacheError>;

    /// Keeps a value for a time, in place of what was there; refuses one above [`MAX_VALUE`].
    async fn put(&self, key: &Key, value: Bytes, time_to_live: Duration) -> Result<(), CacheError>;

    /// Forgets whatever is under a key; tells whether there was something.
    async fn delete(&self, key: &Key) -> Result<bool, CacheError>;

    /// Takes tokens from a bucket, all of them or none. The bucket fills evenly and is full at first; who wants more than
    /// it holds gets it from a full one, which then owes the rest. The limit is told at each use and may change.
    async fn take_tokens(&self, key: &Key, limit: Limit, amount: u64) -> Result<Tokens, CacheError>;

    /// Corrects a bucket: `taken` tokens were taken and `used` were needed.
    async fn settle_tokens(&self, key: &Key, limit: Limit, taken: u64, used: u64) -> Result<(), CacheError>;

    /// Tells whether this is the first call with this key within `window`; of many at once exactly one is.
    async fn first_time(&self, key: &Key, window: Duration) -> Result<bool, CacheError>;
}
