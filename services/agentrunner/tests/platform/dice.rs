//! Chance that can be had again: the same seed gives the same faults on every machine and in every version.

use std::time::Duration;

/// SplitMix64.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Those of this test: of `TORTURE_SEED`, or of a seed of its own. Says how to have them again.
    pub(crate) fn of_this_test() -> (Self, u64) {
        let seed = number("TORTURE_SEED").unwrap_or_else(|| u64::from(std::process::id()));
        let thread = std::thread::current();
        let test = thread.name().unwrap_or_default();
        println!("again: TORTURE_SEED={seed} scripts/torture --test {test}");
        (Self(seed), seed)
    }

    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    pub(crate) fn up_to(&mut self, longest: Duration) -> Duration {
        Duration::from_millis(self.roll(longest.as_millis() as u64 + 1))
    }

    pub(crate) fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.roll(last as u64 + 1) as usize);
        }
    }
}

/// A number that whoever runs the tests has set.
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}
