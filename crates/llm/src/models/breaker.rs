//! A circuit breaker: what fails again and again is left alone for a while, then tried with a single call.

use std::time::Duration;

use tokio::time::Instant;

use super::settings::BreakerSettings;

/// How many of the last calls are looked at for the rate of failures.
const WINDOW: u32 = 20;
/// With fewer calls there is no rate.
const ENOUGH: u32 = 10;
/// How soon others look again while one call tries.
const WHILE_PROBED: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Closed,
    Open {
        until: Instant,
    },
    /// One call is under way to see whether it works again.
    Probed,
}

/// How a breaker stands, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// It failed too often and is left alone.
    Open,
    /// One call may try, or does.
    HalfOpen,
}

#[derive(Debug, Default)]
pub(super) struct Breaker {
    state: State,
    in_a_row: u32,
    /// The last calls, the newest in the lowest bit; 1 is a failure.
    recent: u32,
    seen: u32,
    /// How often it opened without a success in between.
    opened: u32,
}

impl Breaker {
    /// Lets a call through, and tells whether it is the one that tries; or says how long to wait.
    pub(super) fn admit(&mut self, now: Instant) -> Result<bool, Duration> {
        match self.state {
            State::Closed => Ok(false),
            State::Open { until } if now < until => Err(until - now),
            State::Open { .. } => {
                self.state = State::Probed;
                Ok(true)
            }
            State::Probed => Err(WHILE_PROBED),
        }
    }

    pub(super) fn succeeded(&mut self) {
        let (recent, seen) = (self.recent << 1, (self.seen + 1).min(WINDOW));
        let was_closed = self.state == State::Closed;
        *self = Self::default();
        if was_closed {
            (self.recent, self.seen) = (recent, seen);
        }
    }

    pub(super) fn failed(&mut self, probe: bool, now: Instant, settings: &BreakerSettings) {
        match self.state {
            State::Closed => {
                self.in_a_row += 1;
                self.recent = (self.recent << 1) | 1;
                self.seen = (self.seen + 1).min(WINDOW);
                let failures = (self.recent & ((1 << WINDOW) - 1)).count_ones();
                if self.in_a_row >= settings.failures || (self.seen >= ENOUGH && failures * 2 >= self.seen) {
                    self.open(now, settings);
                }
            }
            State::Probed if probe => self.open(now, settings),
            // A call that began before it opened says nothing new.
            State::Probed | State::Open { .. } => {}
        }
    }

    /// The call that tried was given up, or says nothing about the server: another may try.
    pub(super) fn undecided(&mut self, probe: bool, now: Instant) {
        if probe && self.state == State::Probed {
            self.state = State::Open { until: now };
        }
    }

    /// Lets one call try now.
    pub(super) fn hurry(&mut self, now: Instant) {
        if let State::Open { until } = &mut self.state {
            *until = now.min(*until);
        }
    }

    pub(super) fn shown(&self, now: Instant) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { until } if now < until => BreakerState::Open,
            State::Open { .. } | State::Probed => BreakerState::HalfOpen,
        }
    }

    fn open(&mut self, now: Instant, settings: &BreakerSettings) {
        let doubled = settings.cool_down.saturating_mul(1 << self.opened.min(16));
        self.state = State::Open { until: now + doubled.min(settings.max_cool_down) };
        self.opened += 1;
        (self.in_a_row, self.recent, self.seen) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: BreakerSettings =
        BreakerSettings { failures: 3, cool_down: Duration::from_secs(5), max_cool_down: Duration::from_secs(20) };

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            assert_eq!(breaker.admit(now), Ok(false));
            breaker.failed(false, now, &SETTINGS);
        }
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_call_try() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert_eq!(breaker.admit(now), Err(Duration::from_secs(5)));
        let later = now + Duration::from_secs(5);
        assert_eq!(breaker.admit(later), Ok(true), "one may try");
        assert!(breaker.admit(later).is_err(), "and no other meanwhile");
        breaker.succeeded();
        assert_eq!(breaker.admit(later), Ok(false));
    }

    #[test]
    fn each_failed_attempt_doubles_the_time_up_to_the_longest() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        for seconds in [10, 20, 20, 20] {
            now += Duration::from_secs(60);
            assert_eq!(breaker.admit(now), Ok(true));
            breaker.failed(true, now, &SETTINGS);
            assert_eq!(breaker.admit(now), Err(Duration::from_secs(seconds)));
        }
    }

    #[test]
    fn a_success_in_between_begins_the_row_anew_but_half_of_many_is_too_much() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        let mut calls = 0;
        while breaker.shown(now) == BreakerState::Closed {
            breaker.failed(false, now, &SETTINGS);
            calls += 1;
            if breaker.shown(now) == BreakerState::Closed {
                breaker.succeeded();
                calls += 1;
            }
            assert!(calls < 50, "one of two calls fails for ever");
        }
        assert!(calls >= ENOUGH, "opened after {calls} calls");
    }

    #[test]
    fn an_attempt_that_was_given_up_leaves_the_next_one_free() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + Duration::from_secs(5);
        assert_eq!(breaker.admit(later), Ok(true));
        breaker.undecided(true, later);
        assert_eq!(breaker.shown(later), BreakerState::HalfOpen);
        assert_eq!(breaker.admit(later), Ok(true));
    }

    #[test]
    fn failures_of_calls_from_before_it_opened_do_not_count() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.failed(false, now + Duration::from_secs(4), &SETTINGS);
        let later = now + Duration::from_secs(5);
        assert_eq!(breaker.admit(later), Ok(true));
        breaker.failed(false, later, &SETTINGS);
        assert_eq!(breaker.shown(later), BreakerState::HalfOpen, "the attempt is still under way");
    }
}
