//! What a model did since this process started.

use std::time::Duration;

use domain::{FailureKind, Usage, Usd};
use tokio::time::Instant;

/// How many of the last answers tell how long one takes.
const RING: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) calls: u64,
    pub(super) errors: u64,
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
    pub(super) spend: Usd,
    pub(super) last_error: Option<(FailureKind, Instant)>,
    latencies: Vec<Duration>,
    next: usize,
}

impl Stats {
    pub(super) fn answered(&mut self, usage: &Usage, took: Duration) {
        self.calls += 1;
        self.input_tokens = self.input_tokens.saturating_add(usage.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(usage.output_tokens);
        self.spend = self.spend.saturating_add(usage.cost);
        if self.latencies.len() < RING {
            self.latencies.push(took);
        } else {
            self.latencies[self.next] = took;
        }
        self.next = (self.next + 1) % RING;
    }

    pub(super) fn failed(&mut self, kind: FailureKind, at: Instant) {
        self.calls += 1;
        self.errors += 1;
        self.last_error = Some((kind, at));
    }

    /// How long an answer takes: half of the last ones no longer than the first value, 95 of 100 than the second.
    pub(super) fn latency(&self) -> Option<(Duration, Duration)> {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        let at = |percent: usize| sorted[(last * percent).div_ceil(100)];
        Some((at(50), at(95)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_those_of_the_last_answers() {
        let mut stats = Stats::default();
        assert_eq!(stats.latency(), None);
        for _ in 0..RING {
            stats.answered(&Usage::default(), Duration::from_secs(9));
        }
        for millis in 1..=RING as u64 {
            stats.answered(&Usage::default(), Duration::from_millis(millis));
        }
        let (half, most) = stats.latency().unwrap();
        assert_eq!((half.as_millis(), most.as_millis()), (33, 61));
    }
}
