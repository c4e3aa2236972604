//! Waits until a change is complete: a file that is being written is not taken for what it says halfway.
//!
//! Half of a file may be a valid agent, so whether it parses says nothing. A change counts when two looks some time apart
//! saw the same; a file that never comes to rest counts all the same after a while, if it is right just then.

use std::collections::BTreeMap;
use std::time::Duration;

use super::folder::{Look, Seen};

/// How long a file must say the same.
pub(crate) const REST: Duration = Duration::from_millis(120);
/// After how long a file that does not come to rest is taken as it is.
const PATIENCE: Duration = Duration::from_millis(800);

/// The folder without what is being changed.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    settled: Look,
    moving: BTreeMap<String, Moving>,
    begun: bool,
}

#[derive(Debug)]
struct Moving {
    seen: Option<Seen>,
    /// When the file began to differ from what counts.
    since: Duration,
    /// When it was first seen as it is now.
    at_rest_since: Duration,
}

impl Settling {
    /// What counts.
    pub(crate) fn settled(&self) -> &Look {
        &self.settled
    }

    /// True when something is being changed, so that the next look should come soon.
    pub(crate) fn is_moving(&self) -> bool {
        !self.moving.is_empty()
    }

    /// Takes a look into account; returns whether what counts has changed. The first look counts as it is.
    pub(crate) fn observe(&mut self, look: &Look, now: Duration) -> bool {
        if !self.begun {
            self.begun = true;
            self.settled.clone_from(look);
            return true;
        }
        let mut names: Vec<String> = look.keys().chain(self.settled.keys()).cloned().collect();
        names.sort();
        names.dedup();
        self.moving.retain(|name, _| names.binary_search(name).is_ok());
        let mut changed = false;
        for name in names {
            changed |= self.file(name, look, now);
        }
        changed
    }

    fn file(&mut self, name: String, look: &Look, now: Duration) -> bool {
        let seen = look.get(&name);
        if seen == self.settled.get(&name) {
            self.moving.remove(&name);
            return false;
        }
        let moving = self.moving.entry(name.clone()).or_insert_with(|| Moving {
            seen: seen.cloned(),
            since: now,
            at_rest_since: now,
        });
        if moving.seen.as_ref() != seen {
            moving.seen = seen.cloned();
            moving.at_rest_since = now;
        }
        let rested = now.saturating_sub(moving.at_rest_since) >= REST;
        let waited = now.saturating_sub(moving.since) >= PATIENCE && seen.is_some_and(|seen| seen.content.is_ok());
        if !rested && !waited {
            return false;
        }
        self.moving.remove(&name);
        match seen {
            Some(seen) => self.settled.insert(name, seen.clone()),
            None => self.settled.remove(&name),
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "a.yml";

    fn look(text: &str) -> Look {
        Look::from([(FILE.to_owned(), Seen::parsed(FILE, text.as_bytes(), &[]))])
    }

    fn says(settling: &Settling) -> Option<u32> {
        let parsed = settling.settled().get(FILE)?.content.as_ref().as_ref().ok()?;
        Some(parsed.spec.limits.max_steps)
    }

    fn begun(text: &str) -> Settling {
        let mut settling = Settling::default();
        assert!(settling.observe(&look(text), Duration::ZERO), "the first look counts as it is");
        settling
    }

    #[test]
    fn a_file_that_is_written_line_by_line_counts_when_it_is_complete() {
        let mut settling = begun("name: a\nlimits: {max_steps: 7}\n");
        let mut now = Duration::ZERO;
        for half in ["", "name: a\n", "name: a\nlimits:\n", "name: a\nlimits:\n  max_steps: 8\n"] {
            now += REST / 2;
            assert!(!settling.observe(&look(half), now));
            assert!(settling.is_moving());
            assert_eq!(says(&settling), Some(7));
        }
        assert!(!settling.observe(&look("name: a\nlimits:\n  max_steps: 8\n"), now + REST / 2));
        assert!(settling.observe(&look("name: a\nlimits:\n  max_steps: 8\n"), now + REST));
        assert_eq!(says(&settling), Some(8));
        assert!(!settling.is_moving());
    }

    #[test]
    fn a_file_that_is_away_for_a_moment_is_not_gone() {
        let mut settling = begun("name: a\nlimits: {max_steps: 7}\n");
        assert!(!settling.observe(&Look::new(), REST));
        assert!(!settling.observe(&look("name: a\nlimits: {max_steps: 7}\n"), REST * 3));
        assert!(!settling.is_moving());
        assert!(!settling.observe(&Look::new(), REST * 4));
        assert!(settling.observe(&Look::new(), REST * 5));
        assert!(settling.settled().is_empty());
    }

    #[test]
    fn a_file_that_never_rests_counts_when_it_is_right() {
        let mut settling = begun("name: a\nlimits: {max_steps: 1}\n");
        let mut now = Duration::ZERO;
        let mut edit = 1;
        while now < PATIENCE + REST {
            now += REST / 2;
            edit += 1;
            settling.observe(&look(&format!("name: a\nlimits: {{max_steps: {edit}}}\n")), now);
        }
        now += REST / 2;
        settling.observe(&look("name: a\nlimits: {max_st"), now);
        assert!(says(&settling).is_some_and(|steps| steps > 1), "it was taken in between, and not when it was wrong");
    }

    #[test]
    fn a_file_that_comes_and_goes_before_it_counts_leaves_nothing() {
        let mut settling = Settling::default();
        settling.observe(&Look::new(), Duration::ZERO);
        settling.observe(&look("name: a\n"), REST);
        settling.observe(&Look::new(), REST * 2);
        assert!(!settling.is_moving());
        assert!(settling.settled().is_empty());
    }
}
