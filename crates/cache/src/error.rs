//! What can go wrong with what may be forgotten.

/// Why a cache did not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// The cache cannot be reached or takes nothing; for a value that is a miss.
    #[error("the cache is unavailable: {0}")]
    Unavailable(String),
    /// A key or value is larger than any may be.
    #[error("a {what} of {size} bytes is larger than {limit}")]
    TooLarge {
        /// `key` or `value`.
        what: &'static str,
        /// How large it is, in bytes.
        size: usize,
        /// How large it may be.
        limit: usize,
    },
}
