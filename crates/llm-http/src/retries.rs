//! Repeating what failed, while that is harmless; and ending in time.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use llm::{DeltaSink, LlmError};
use tokio::time::{Instant, timeout};

use crate::Failed;

/// A server that asks for a longer pause is left to whoever asked.
pub const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// However patient a request is.
pub const LONGEST_CALL: Duration = Duration::from_hours(24);

/// Lets a call take so long and no longer.
pub async fn in_time<T>(
    model: &str,
    limit: Duration,
    call: impl Future<Output = Result<T, LlmError>>,
) -> Result<T, LlmError> {
    let limit = limit.min(LONGEST_CALL);
    timeout(limit, call)
        .await
        .unwrap_or_else(|_| Err(LlmError::Timeout { model: model.to_owned(), millis: limit.as_millis() as u64 }))
}

/// The repetitions of one call.
#[derive(Debug)]
pub struct Retries {
    pauses: ExponentialBackoff,
    deadline: Instant,
}

impl Retries {
    pub(crate) fn new(most: u32, first_pause: Duration, deadline: Instant) -> Self {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(first_pause)
            .with_max_delay(LONGEST_PAUSE)
            .with_max_times(most as usize)
            .with_jitter()
            .build();
        Self { pauses, deadline }
    }

    /// Waits as long as is right before the call is made again; gives the error when it should not be.
    ///
    /// What was begun aloud (`spoken`) is not silently begun anew.
    pub async fn pause(&mut self, failed: Failed, spoken: bool) -> Result<(), LlmError> {
        if !failed.again || spoken {
            return Err(failed.error);
        }
        let asked_for = failed.error.retry_after().unwrap_or_default();
        let Some(pause) = self.pauses.next().map(|pause| pause.max(asked_for)) else { return Err(failed.error) };
        if asked_for > LONGEST_PAUSE || Instant::now() + pause >= self.deadline {
            return Err(failed.error);
        }
        tracing::debug!(error = %failed.error, pause_ms = pause.as_millis() as u64, "model call is repeated");
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Notes whether anything was spoken.
#[derive(Debug, Default)]
pub struct Spoken(AtomicBool);

impl Spoken {
    /// The sink, noting that it was used.
    pub fn noting<'a>(&'a self, on_delta: &'a DeltaSink<'a>) -> impl Fn(&str) + Send + Sync + 'a {
        move |text| {
            self.0.store(true, Ordering::Relaxed);
            on_delta(text);
        }
    }

    /// Tells whether it was.
    pub fn anything(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
