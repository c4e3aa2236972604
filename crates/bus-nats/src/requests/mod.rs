//! Requests: one subject an operation, served by a queue group, found by the services API of NATS.

mod ask;
mod discovery;
mod serve;

pub(crate) use ask::ask;
pub(crate) use serve::Services;

use async_nats::service::error::Error as Refusal;

/// The handler panicked.
const FAILED: usize = 500;
/// Too many requests are being handled.
const OVERLOADED: usize = 503;
/// The body, or the answer to it, is too large.
const TOO_LARGE: usize = 413;
/// The body could not be fetched.
const UNFETCHED: usize = 424;

fn refusal(code: usize, status: impl Into<String>) -> Refusal {
    Refusal { code, status: status.into() }
}

/// Where requests of `subject` go.
fn full_subject(prefix: &str, subject: &str) -> String {
    format!("{prefix}.requests.{subject}")
}
