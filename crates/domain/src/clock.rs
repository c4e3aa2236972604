//! Time and identity as parameters, so that tests own both.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use chrono::SubsecRound;
use uuid::Uuid;

/// A moment in UTC.
pub type Timestamp = chrono::DateTime<chrono::Utc>;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Returns the wall-clock time in whole microseconds; it may jump in either direction.
    fn now(&self) -> Timestamp;
    /// Returns the time since some fixed point of this process; it never goes back.
    fn monotonic(&self) -> Duration;
}

/// Makes identifiers.
pub trait Ids: Send + Sync + 'static {
    /// Returns a new UUIDv7; later ones sort after earlier ones of the same process.
    fn uuid(&self) -> Uuid;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> Timestamp {
        // Records keep microseconds: what is told as it happens must be what is read later.
        chrono::Utc::now().trunc_subsecs(6)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Identifiers from the machine's clock and randomness.
#[derive(Debug, Default)]
pub struct SystemIds;

impl Ids for SystemIds {
    #[expect(clippy::disallowed_methods, reason = "the one place that makes random identifiers")]
    fn uuid(&self) -> Uuid {
        Uuid::now_v7()
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<(Timestamp, Duration)>,
}

impl ManualClock {
    /// Starts at `now`.
    pub fn at(now: Timestamp) -> Self {
        Self { state: Mutex::new((now, Duration::ZERO)) }
    }

    /// Moves wall clock and monotonic clock forward together.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.0 += chrono::Duration::from_std(by).unwrap_or(chrono::Duration::MAX);
        state.1 += by;
    }

    /// Moves the wall clock alone, as a time server's correction does.
    pub fn jump(&self, by: chrono::Duration) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.0 += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0
    }

    fn monotonic(&self) -> Duration {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).1
    }
}

#[cfg(test)]
mod tests {
    use chrono::Timelike;

    use super::*;

    #[test]
    fn the_time_is_told_in_whole_microseconds() {
        assert_eq!(SystemClock::default().now().nanosecond() % 1_000, 0);
    }
}
