//! What can go wrong with messages.

/// Why a message could not be sent or received.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BusError {
    /// Nobody serves the subject.
    #[error("nobody serves {subject}")]
    NoResponder {
        /// The subject.
        subject: String,
    },
    /// No answer came in time.
    #[error("no answer from {subject} within {millis} ms")]
    Timeout {
        /// The subject.
        subject: String,
        /// How long was waited.
        millis: u64,
    },
    /// The request or its answer is larger than the bus carries; trying again does not help.
    #[error("{bytes} bytes are too much for a request of {subject} or its answer, {limit} are allowed")]
    TooLarge {
        /// The subject.
        subject: String,
        /// How large it is; 0 when that is not known.
        bytes: usize,
        /// How large it may be.
        limit: usize,
    },
    /// The broker cannot be reached.
    #[error("the broker is unavailable: {0}")]
    Unavailable(String),
    /// The bus was closed.
    #[error("the bus is closed")]
    Closed,
}
