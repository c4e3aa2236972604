//! So much in a minute: a bucket that fills evenly, and holds a minute's worth.

use std::time::Duration;

use tokio::time::Instant;

/// How much was taken; the limit is told at each use, so that it may change while calls run.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// What is missing from a full bucket. More than the bucket holds when what was taken proved to be more than was asked for.
    missing: f64,
    at: Option<Instant>,
}

impl Bucket {
    /// Tells how long it takes until `amount` is there. Who wants more than a minute's worth gets it from a full bucket.
    pub(super) fn wait(&mut self, amount: u64, per_minute: u64, now: Instant) -> Duration {
        self.fill(per_minute, now);
        let wanted = amount.min(per_minute) as f64;
        let short = self.missing + wanted - per_minute as f64;
        // Less than a thousandth is what remains of rounding.
        if short <= 0.001 { Duration::ZERO } else { Duration::from_secs_f64(short * 60.0 / per_minute as f64) }
    }

    /// Takes it, whether it is there or not.
    pub(super) fn take(&mut self, amount: u64, per_minute: u64, now: Instant) {
        self.fill(per_minute, now);
        self.missing += amount as f64;
    }

    /// Corrects what was taken.
    pub(super) fn settle(&mut self, taken: u64, used: u64) {
        self.missing = (self.missing - taken as f64 + used as f64).max(0.0);
    }

    fn fill(&mut self, per_minute: u64, now: Instant) {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.missing = (self.missing - passed.as_secs_f64() * per_minute as f64 / 60.0).max(0.0);
        self.at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_goes_at_once_and_then_evenly() {
        let mut now = Instant::now();
        let mut bucket = Bucket::default();
        for _ in 0..60 {
            assert_eq!(bucket.wait(1, 60, now), Duration::ZERO);
            bucket.take(1, 60, now);
        }
        assert_eq!(bucket.wait(1, 60, now), Duration::from_secs(1));
        now += Duration::from_secs(1);
        assert_eq!(bucket.wait(1, 60, now), Duration::ZERO);
    }

    #[test]
    fn what_is_larger_than_the_bucket_goes_when_it_is_full() {
        let mut now = Instant::now();
        let mut bucket = Bucket::default();
        assert_eq!(bucket.wait(1_000, 100, now), Duration::ZERO);
        bucket.take(1_000, 100, now);
        now += Duration::from_secs(60);
        assert!(bucket.wait(1, 100, now) > Duration::from_secs(60), "it is paid back");
    }

    #[test]
    fn what_was_not_used_is_given_back() {
        let now = Instant::now();
        let mut bucket = Bucket::default();
        bucket.take(100, 100, now);
        assert!(bucket.wait(50, 100, now) > Duration::ZERO);
        bucket.settle(100, 10);
        assert_eq!(bucket.wait(50, 100, now), Duration::ZERO);
        bucket.settle(10, 0);
        bucket.settle(10, 0);
        assert_eq!(bucket.wait(100, 100, now), Duration::ZERO);
        assert!(bucket.wait(1, 100, now) == Duration::ZERO);
    }
}
