//! When a lease counts as lost, without trusting any wall clock.

use std::collections::HashMap;
use std::time::Duration;

use domain::Lease;

use crate::LeaseBeat;

/// Remembers when each lease last showed a renewal, on this process's own monotonic clock.
///
/// A lease is lost when it was *seen* without a renewal for its whole length. No clock jump anywhere can expire a live
/// one, and a reaper that starts anew grants every lease its whole length again.
#[derive(Debug, Default)]
pub struct LeaseWatch {
    seen: HashMap<Lease, (u64, Duration)>,
}

impl LeaseWatch {
    /// Takes the leases that are held now; returns those that showed no renewal for `length`.
    pub fn observe(&mut self, held: &[LeaseBeat], now: Duration, length: Duration) -> Vec<LeaseBeat> {
        let mut next = HashMap::with_capacity(held.len());
        let mut lost = Vec::new();
        for beat in held {
            let since = match self.seen.get(&beat.lease) {
                Some((seen, since)) if *seen == beat.beat => *since,
                _ => now,
            };
            if now.saturating_sub(since) >= length {
                lost.push(*beat);
            }
            next.insert(beat.lease, (beat.beat, since));
        }
        self.seen = next;
        lost
    }
}

#[cfg(test)]
mod tests {
    use domain::{TaskId, WorkerId};
    use uuid::Uuid;

    use super::*;

    fn beat(epoch: u32, beat: u64) -> LeaseBeat {
        LeaseBeat {
            lease: Lease { task: TaskId(Uuid::from_u128(1)), epoch },
            worker: WorkerId(Uuid::from_u128(2)),
            beat,
        }
    }

    #[test]
    fn a_silent_lease_is_lost_after_its_whole_length() {
        let mut watch = LeaseWatch::default();
        let length = Duration::from_secs(4);
        assert!(watch.observe(&[beat(1, 0)], Duration::from_secs(100), length).is_empty());
        assert!(watch.observe(&[beat(1, 0)], Duration::from_secs(103), length).is_empty());
        assert_eq!(watch.observe(&[beat(1, 0)], Duration::from_secs(104), length), [beat(1, 0)]);
    }

    #[test]
    fn a_renewal_or_a_new_epoch_starts_the_length_anew() {
        let mut watch = LeaseWatch::default();
        let length = Duration::from_secs(4);
        watch.observe(&[beat(1, 0)], Duration::ZERO, length);
        assert!(watch.observe(&[beat(1, 1)], Duration::from_secs(4), length).is_empty());
        assert!(watch.observe(&[beat(2, 1)], Duration::from_secs(8), length).is_empty());
        assert!(watch.observe(&[beat(2, 1)], Duration::from_secs(11), length).is_empty());
        assert!(!watch.observe(&[beat(2, 1)], Duration::from_secs(12), length).is_empty());
    }
}
