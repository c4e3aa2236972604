//! Token buckets: so much at once, and then so much a second.

use std::time::Duration;

/// Less than a thousandth of a token is what remains of rounding.
const ROUNDING: f64 = 0.001;

/// What a bucket holds and how fast it fills.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// How many tokens a full bucket holds; at least 1.
    pub capacity: u64,
    /// How many tokens come in a second; more than 0.
    pub per_second: f64,
}

impl Limit {
    /// So many in a minute, of which all may go at once.
    pub fn per_minute(tokens: u64) -> Self {
        let capacity = tokens.max(1);
        Self { capacity, per_second: capacity as f64 / 60.0 }
    }

    /// How long an empty bucket takes until it is full, or one that owes `missing` tokens.
    pub fn time_to_fill(&self, missing: f64) -> Duration {
        Duration::try_from_secs_f64((missing / self.per_second).max(0.0)).unwrap_or(Duration::MAX)
    }
}

/// What became of a wish for tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokens {
    /// They were taken.
    Granted,
    /// None were taken; so many will be there after this time, if nobody else takes them.
    Wait(Duration),
}

/// What a bucket is like; the rule that all caches follow.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bucket {
    /// What is missing from a full bucket: more than its capacity when it owes something.
    pub missing: f64,
}

impl Bucket {
    /// Lets time pass.
    pub fn fill(&mut self, limit: Limit, passed: Duration) {
        self.missing = (self.missing - passed.as_secs_f64() * limit.per_second).max(0.0);
    }

    /// Takes tokens, all or none.
    pub fn take(&mut self, limit: Limit, amount: u64) -> Tokens {
        let wanted = amount.min(limit.capacity) as f64;
        let short = self.missing + wanted - limit.capacity as f64;
        if short > ROUNDING {
            return Tokens::Wait(limit.time_to_fill(short));
        }
        self.missing += amount as f64;
        Tokens::Granted
    }

    /// Corrects what was taken.
    pub fn settle(&mut self, taken: u64, used: u64) {
        self.missing = (self.missing - taken as f64 + used as f64).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_larger_than_the_bucket_goes_when_it_is_full_and_is_paid_back() {
        let limit = Limit::per_minute(60);
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(limit, 90), Tokens::Granted);
        assert_eq!(bucket.take(limit, 1), Tokens::Wait(Duration::from_secs(31)));
        bucket.fill(limit, Duration::from_secs(31));
        assert_eq!(bucket.take(limit, 1), Tokens::Granted);
    }

    proptest! {
        /// Whatever is asked for and when, no stretch of time sees more than the capacity and what came in it.
        #[test]
        fn no_more_goes_than_the_limit_says(wishes in prop::collection::vec((1..20_u64, 0..3_000_u64), 1..100)) {
            let limit = Limit { capacity: 10, per_second: 2.0 };
            let mut bucket = Bucket::default();
            let (mut granted, mut now): (Vec<(f64, u64)>, f64) = (Vec::new(), 0.0);
            for (amount, pause_ms) in wishes {
                let amount = amount.min(limit.capacity);
                let pause = Duration::from_millis(pause_ms);
                now += pause.as_secs_f64();
                bucket.fill(limit, pause);
                if bucket.take(limit, amount) == Tokens::Granted {
                    granted.push((now, amount));
                }
                for first in 0..granted.len() {
                    let total: u64 = granted[first..].iter().map(|(_, amount)| amount).sum();
                    let most = limit.capacity as f64 + (now - granted[first].0) * limit.per_second;
                    prop_assert!(total as f64 <= most + 0.1, "{total} > {most}");
                }
            }
        }
    }
}
