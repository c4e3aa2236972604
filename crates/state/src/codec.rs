//! How domain values become columns and back, for every store of rows: each stored form is decided here, so that all of them
//! keep the same, and what does not fit is an error.

use std::io::Read as _;

use crate::StateError;
use domain::{ExecutionMode, TaskStatus, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest body, before compression.
pub const BODY_MAX: usize = 16 * 1024 * 1024;
/// The same for what the store wraps around a sub-task's answer or a signal's value: wrapping must never fail.
const OWN_BODY_MAX: usize = 4 * BODY_MAX;
/// Bits of a step's place that hold its number.
const SEQ_BITS: u32 = 20;
/// The most steps of one journal.
pub const STEPS_MAX: u32 = 1 << SEQ_BITS;
/// The most that workers may write, so that the store can always say how a task was lost, resolved or retried.
pub const WORKER_STEPS_MAX: u32 = STEPS_MAX - 4_096;
/// Fast and nearly as small as the default: bodies are compressed while a task waits for them.
const ZSTD_LEVEL: i32 = 1;

const RAW: i64 = 0;
const ZSTD: i64 = 1;

/// A value as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// How the bytes are to be read: 0 JSON, 1 JSON compressed with zstd.
    pub enc: i64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Body {
    /// Encodes a value, compressed when its JSON is longer than `threshold` and shrinks; `what` names it in errors.
    pub fn encode<T: Serialize + ?Sized>(value: &T, threshold: usize, what: &str) -> Result<Self, StateError> {
        Self::encode_up_to(BODY_MAX, value, threshold, what)
    }

    /// Encodes a step that the store makes of values which passed the limit before.
    pub fn encode_own<T: Serialize + ?Sized>(value: &T, threshold: usize, what: &str) -> Result<Self, StateError> {
        Self::encode_up_to(OWN_BODY_MAX, value, threshold, what)
    }

    fn encode_up_to<T: Serialize + ?Sized>(
        limit: usize,
        value: &T,
        threshold: usize,
        what: &str,
    ) -> Result<Self, StateError> {
        let bytes = serde_json::to_vec(value).map_err(|error| StateError::Corrupt(format!("{what}: {error}")))?;
        if bytes.len() > limit {
            let length = bytes.len();
            return Err(StateError::TooLarge(format!("{what} has {length} bytes as JSON; the limit is {limit}")));
        }
        if bytes.len() > threshold
            && let Ok(small) = zstd::bulk::compress(&bytes, ZSTD_LEVEL)
            && small.len() < bytes.len()
        {
            return Ok(Self { enc: ZSTD, bytes: small });
        }
        Ok(Self { enc: RAW, bytes })
    }

    /// Decodes what `encode` made.
    pub fn decode<T: DeserializeOwned>(&self, what: &str) -> Result<T, StateError> {
        let json = match self.enc {
            RAW => return serde_json::from_slice(&self.bytes).map_err(|error| corrupt(what, error)),
            ZSTD => {
                let mut json = Vec::new();
                zstd::stream::read::Decoder::new(self.bytes.as_slice())
                    .and_then(|decoder| decoder.take(OWN_BODY_MAX as u64 + 1).read_to_end(&mut json))
                    .map_err(|error| corrupt(what, error))?;
                json
            }
            other => return Err(corrupt(what, format!("unknown encoding {other}"))),
        };
        serde_json::from_slice(&json).map_err(|error| corrupt(what, error))
    }
}

/// Says that something stored is not understood.
pub fn corrupt(what: &str, why: impl std::fmt::Display) -> StateError {
    StateError::Corrupt(format!("{what}: {why}"))
}

/// A time as a column; sub-microseconds are cut off.
pub fn micros(at: Timestamp) -> i64 {
    at.timestamp_micros()
}

/// A column as a time.
pub fn timestamp(micros: i64) -> Result<Timestamp, StateError> {
    Timestamp::from_timestamp_micros(micros).ok_or_else(|| corrupt("a time", micros))
}

/// Cuts a time to what is stored, so that an answer equals a later read.
pub fn stored_time(at: Timestamp) -> Timestamp {
    Timestamp::from_timestamp_micros(micros(at)).unwrap_or(at)
}

/// A status as a column.
pub fn status_column(status: TaskStatus) -> i64 {
    match status {
        TaskStatus::Queued => 0,
        TaskStatus::Running => 1,
        TaskStatus::Waiting => 2,
        TaskStatus::Succeeded => 3,
        TaskStatus::Failed => 4,
        TaskStatus::Cancelled => 5,
    }
}

/// A column as a status.
pub fn status(column: i64) -> Result<TaskStatus, StateError> {
    let found = usize::try_from(column).ok().and_then(|index| TaskStatus::ALL.get(index));
    found.copied().ok_or_else(|| corrupt("a status", column))
}

/// A mode as a column.
pub fn mode_column(mode: ExecutionMode) -> i64 {
    match mode {
        ExecutionMode::Autonomous => 0,
        ExecutionMode::Collaborative => 1,
        ExecutionMode::Continuous => 2,
    }
}

/// A column as a mode.
pub fn mode(column: i64) -> Result<ExecutionMode, StateError> {
    let found = usize::try_from(column).ok().and_then(|index| ExecutionMode::ALL.get(index));
    found.copied().ok_or_else(|| corrupt("an execution mode", column))
}

/// The place of a step among all steps.
pub fn step_place(task_key: i64, seq: u32) -> i64 {
    (task_key << SEQ_BITS) | i64::from(seq)
}

/// The number of a step.
pub fn step_seq(place: i64) -> u32 {
    (place & i64::from(STEPS_MAX - 1)) as u32
}

/// The row of the task whose step has a place.
pub fn task_of_place(place: i64) -> i64 {
    place >> SEQ_BITS
}

/// The key of a thread's message.
pub fn message_key(thread_key: i64, seq: u64) -> i64 {
    (thread_key << 32) | seq.min(u64::from(u32::MAX)) as i64
}

/// The number of a thread's message.
pub fn message_seq(key: i64) -> u64 {
    (key & i64::from(u32::MAX)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_above_the_threshold_is_compressed_and_comes_back() {
        let text = "the same words ".repeat(1_000);
        let body = Body::encode(&text, 4_096, "a text").expect("encoded");
        assert_eq!(body.enc, ZSTD);
        assert!(body.bytes.len() < 1_000);
        assert_eq!(body.decode::<String>("a text").expect("decoded"), text);
    }

    #[test]
    fn a_short_body_stays_as_it_is() {
        let body = Body::encode("short", 4_096, "a text").expect("encoded");
        assert_eq!(body, Body { enc: RAW, bytes: b"\"short\"".to_vec() });
    }

    #[test]
    fn a_body_above_the_limit_is_refused() {
        let error = Body::encode(&"x".repeat(BODY_MAX), 4_096, "a step").expect_err("too large");
        assert!(matches!(error, StateError::TooLarge(_)), "{error}");
    }

    #[test]
    fn garbage_is_corrupt() {
        for body in [
            Body { enc: RAW, bytes: b"{".to_vec() },
            Body { enc: ZSTD, bytes: b"{".to_vec() },
            Body { enc: 7, bytes: b"{}".to_vec() },
        ] {
            let error = body.decode::<serde_json::Value>("a step").expect_err("garbage");
            assert!(matches!(error, StateError::Corrupt(_)), "{error}");
        }
    }

    #[test]
    fn columns_are_positions_in_the_domains_lists() {
        for wanted in TaskStatus::ALL {
            assert_eq!(status(status_column(wanted)).expect("known"), wanted);
        }
        for wanted in ExecutionMode::ALL {
            assert_eq!(mode(mode_column(wanted)).expect("known"), wanted);
        }
        assert!(status(6).is_err() && status(-1).is_err() && mode(3).is_err());
    }
}
