//! Randomness for pauses, so that those who failed together do not come back together. Nothing else depends on it.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Chooses lengths of time.
#[derive(Debug)]
pub(super) struct Jitter {
    state: AtomicU64,
}

impl Default for Jitter {
    fn default() -> Self {
        Self { state: AtomicU64::new(RandomState::new().hash_one(0)) }
    }
}

impl Jitter {
    /// A time between `least` and `most`.
    pub(super) fn between(&self, least: Duration, most: Duration) -> Duration {
        // SplitMix64 (Steele, Lea, Flood 2014).
        let mut mixed = self.state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
        least + most.saturating_sub(least).mul_f64(unit)
    }
}
