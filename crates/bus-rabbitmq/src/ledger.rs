//! What was received on a channel and is not settled yet, so that acknowledgements go out in as few frames as possible.

use std::collections::BTreeMap;

/// The unsettled deliveries of one channel, by tag.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Whether each is done and only waits to be told.
    unsettled: BTreeMap<u64, bool>,
}

/// One acknowledgement.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) tag: u64,
    /// Whether it stands for everything before it, too.
    pub(crate) multiple: bool,
}

impl Ledger {
    pub(crate) fn received(&mut self, tag: u64) {
        self.unsettled.insert(tag, false);
    }

    /// Tells whether everything is settled.
    pub(crate) fn is_empty(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// Notes that a delivery was used.
    pub(crate) fn done(&mut self, tag: u64) {
        if let Some(done) = self.unsettled.get_mut(&tag) {
            *done = true;
        }
    }

    /// Forgets a delivery that is refused or given back; false when it was settled before.
    pub(crate) fn remove(&mut self, tag: u64) -> bool {
        self.unsettled.remove(&tag).is_some()
    }

    /// The acknowledgements that are due: one for all before the first that is still in use, one each for the rest.
    pub(crate) fn acks(&mut self) -> Vec<Ack> {
        let mut acks = Vec::new();
        let in_use = self.unsettled.iter().find(|(_, done)| !**done).map(|(tag, _)| *tag);
        let later = in_use.map(|tag| self.unsettled.split_off(&tag)).unwrap_or_default();
        let before = std::mem::replace(&mut self.unsettled, later);
        if let Some(tag) = before.last_key_value().map(|(tag, _)| *tag) {
            acks.push(Ack { tag, multiple: before.len() > 1 });
        }
        acks.extend(self.unsettled.extract_if(.., |_, done| *done).map(|(tag, _)| Ack { tag, multiple: false }));
        acks
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_acknowledgement_stands_for_all_before_the_first_in_use() {
        let mut ledger = Ledger::default();
        for tag in 1..=6 {
            ledger.received(tag);
        }
        for tag in [1, 2, 3, 5] {
            ledger.done(tag);
        }
        assert_eq!(ledger.acks(), [Ack { tag: 3, multiple: true }, Ack { tag: 5, multiple: false }]);
        assert_eq!(ledger.acks(), []);
        ledger.done(4);
        assert_eq!(ledger.acks(), [Ack { tag: 4, multiple: false }]);
    }

    proptest! {
        /// A broker's view: exactly what is done gets acknowledged, and once.
        #[test]
        fn a_broker_hears_exactly_what_is_done(steps in prop::collection::vec((0..4_u8, 1..40_u64), 0..200)) {
            let mut ledger = Ledger::default();
            let (mut unacknowledged, mut done, mut last) = (BTreeSet::new(), BTreeSet::new(), 0);
            for (what, tag) in steps {
                match what {
                    0 => {
                        last += 1;
                        ledger.received(last);
                        unacknowledged.insert(last);
                    }
                    1 => {
                        ledger.done(tag);
                        if unacknowledged.contains(&tag) {
                            done.insert(tag);
                        }
                    }
                    2 => {
                        if !done.contains(&tag) {
                            prop_assert_eq!(ledger.remove(tag), unacknowledged.remove(&tag));
                        }
                    }
                    _ => {
                        let mut heard = BTreeSet::new();
                        for ack in ledger.acks() {
                            let told: Vec<u64> = unacknowledged
                                .iter()
                                .copied()
                                .filter(|tag| *tag == ack.tag || (ack.multiple && *tag < ack.tag))
                                .collect();
                            prop_assert!(told.contains(&ack.tag));
                            for tag in told {
                                unacknowledged.remove(&tag);
                                heard.insert(tag);
                            }
                        }
                        prop_assert_eq!(&heard, &done);
                        done.clear();
                    }
                }
            }
        }
    }
}
