//! Blobs: bytes that are too large for the record, named by their BLAKE3 digest.
//!
//! The record refers to a blob only after its bytes are durable here; what nothing refers to is deleted later.

#[cfg(feature = "contract")]
pub mod contract;
mod folder;

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

pub use folder::Folder;

/// BLAKE3 of a blob's bytes.
pub type Digest = [u8; 32];

/// Keeps blobs.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// Keeps these bytes; durable when it answers. The same bytes again change nothing but the time they were last put.
    async fn put(&self, bytes: Bytes) -> Result<Digest, BlobError>;

    /// Finds a blob, and checks that its bytes are still those that were put.
    async fn get(&self, digest: &Digest) -> Result<Option<Bytes>, BlobError>;

    /// Deletes a blob; false when there was none.
    async fn delete(&self, digest: &Digest) -> Result<bool, BlobError>;

    /// Deletes a blob unless it was put since a moment; false when it was, or when there is none.
    ///
    /// Never deletes what somebody puts at the same time.
    async fn clear(&self, digest: &Digest, moment: SystemTime) -> Result<bool, BlobError>;

    /// Lists blobs that were last put before a moment, at most `limit`, in the order of their digests, after `after`.
    async fn older_than(
        &self,
        moment: SystemTime,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<Digest>, BlobError>;

    /// Proves that the store answers, for readiness checks.
    async fn ping(&self) -> Result<(), BlobError>;
}

/// Why a call to the blob store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BlobError {
    /// The store cannot be reached, or has no room; another try may go better.
    #[error("the blob store is unavailable: {0}")]
    Unavailable(String),
    /// The bytes are no longer those that were put.
    #[error("the blob {0} is damaged")]
    Damaged(String),
}

/// A digest in hexadecimal digits.
pub fn hex(digest: &Digest) -> String {
    blake3::Hash::from_bytes(*digest).to_hex().to_string()
}
