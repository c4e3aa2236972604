//! How long a batch waits before it is tried again. The lanes are the one place where a write is tried again by itself.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};

/// The pauses before the further tries of a batch, with jitter, so that those who met do not meet again.
pub(crate) fn pauses() -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::new()
        .with_jitter()
        .with_min_delay(Duration::from_millis(5))
        .with_max_delay(Duration::from_millis(200))
        .with_max_times(4)
        .build()
}

/// The pauses before the further tries to reach a server that does not answer yet, without an end.
pub(crate) fn patience() -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::new()
        .with_jitter()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(2))
        .without_max_times()
        .build()
}
