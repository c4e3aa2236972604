//! A bound on label values: names that users choose must not make metrics grow without end.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

/// Remembers the first values of a label; later ones become `other`.
#[derive(Debug)]
pub struct LabelSet {
    most: usize,
    seen: RwLock<BTreeSet<String>>,
}

impl LabelSet {
    /// Lets `most` values through.
    pub const fn new(most: usize) -> Self {
        Self { most, seen: RwLock::new(BTreeSet::new()) }
    }

    /// The value as a label.
    pub fn bound(&self, value: &str) -> String {
        if self.seen.read().unwrap_or_else(PoisonError::into_inner).contains(value) {
            return value.to_owned();
        }
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < self.most || seen.contains(value) {
            seen.insert(value.to_owned());
            value.to_owned()
        } else {
            "other".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_values_become_labels() {
        let set = LabelSet::new(2);
        let labels: Vec<String> = ["a", "b", "c", "a", "d"].iter().map(|value| set.bound(value)).collect();
        assert_eq!(labels, ["a", "b", "other", "a", "other"]);
    }
}
