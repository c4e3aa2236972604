//! Which deltas a reader hears: in order, each once, of the call that is being spoken. Pure.

use std::collections::VecDeque;

use domain::Delta;

use super::message::Mark;

/// How many bytes of deltas a late reader gets; the oldest make room.
const BACKLOG_BYTES: usize = 256 << 10;

/// Which call of which step under which lease; a later one is greater and voids those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spoken {
    epoch: u32,
    pub(crate) seq: u32,
    call: u32,
}

impl From<&Delta> for Spoken {
    fn from(delta: &Delta) -> Self {
        Self { epoch: delta.epoch, seq: delta.seq, call: delta.call }
    }
}

/// One stored message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Stored {
    Delta(Delta),
    Mark(Mark),
}

/// The deltas that a late reader gets: the newest call's, as far back as they are whole.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    deltas: VecDeque<Delta>,
    bytes: usize,
    /// The last step that is known to be in the journal.
    done: Option<u32>,
}

impl Backlog {
    /// Takes what was stored next.
    pub(crate) fn take(&mut self, stored: Stored) {
        match stored {
            Stored::Mark(Mark::End) => *self = Self::default(),
            Stored::Mark(Mark::Step(seq)) => {
                self.done = self.done.max(Some(seq));
                if self.deltas.back().is_some_and(|last| last.seq <= seq) {
                    self.clear();
                }
            }
            Stored::Delta(delta) if self.done.is_some_and(|done| delta.seq <= done) => {}
            Stored::Delta(delta) => self.add(delta),
        }
    }

    fn add(&mut self, delta: Delta) {
        let last = self.deltas.back().map(|last| (Spoken::from(last), last.n));
        let now = (Spoken::from(&delta), delta.n);
        if last.is_some_and(|last| now <= last) {
            return;
        }
        if last != Some((now.0, now.1.saturating_sub(1))) {
            self.clear();
        }
        self.bytes += size(&delta);
        self.deltas.push_back(delta);
        while self.bytes > BACKLOG_BYTES
            && let Some(oldest) = self.deltas.pop_front()
        {
            self.bytes -= size(&oldest);
        }
    }

    fn clear(&mut self) {
        self.deltas.clear();
        self.bytes = 0;
    }

    pub(crate) fn finish(self) -> Vec<Delta> {
        self.deltas.into()
    }
}

fn size(delta: &Delta) -> usize {
    delta.text.len() + size_of::<Delta>()
}

/// What a reader has heard.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    last: Option<(Spoken, u32)>,
}

/// What to do with a delta that comes in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It comes next.
    Tell,
    /// It was heard, or is void.
    Drop,
    /// Others come before it.
    Gap,
}

impl Heard {
    pub(crate) fn after(backlog: &[Delta]) -> Self {
        Self { last: backlog.last().map(|last| (Spoken::from(last), last.n)) }
    }

    /// Whether anything was heard that something could be missing after.
    pub(crate) fn anything(&self) -> bool {
        self.last.is_some()
    }

    pub(crate) fn judge(&self, delta: &Delta) -> Verdict {
        let (now, n) = (Spoken::from(delta), delta.n);
        match self.last {
            Some((last, _)) if now < last => Verdict::Drop,
            Some((last, heard)) if now == last && n <= heard => Verdict::Drop,
            Some((last, heard)) if now == last && n == heard + 1 => Verdict::Tell,
            _ if n == 1 => Verdict::Tell,
            _ => Verdict::Gap,
        }
    }

    pub(crate) fn told(&mut self, delta: &Delta) {
        self.last = Some((Spoken::from(delta), delta.n));
    }

    /// A retry of an ended task begins anew.
    pub(crate) fn ended(&mut self) {
        self.last = None;
    }

    /// What to tell instead of `delta`, which came too early, if `backlog` closes the gap: up to and with it, or further.
    /// Nothing, when a later call voided it.
    pub(crate) fn fill(&self, backlog: &[Delta], delta: &Delta) -> Option<Vec<Delta>> {
        let newest = backlog.last()?;
        if Spoken::from(newest) > Spoken::from(delta) {
            return Some(Vec::new());
        }
        let mut filled = Self { last: self.last };
        let mut tell = Vec::new();
        for one in backlog.iter().chain([delta]) {
            if filled.judge(one) == Verdict::Tell {
                filled.told(one);
                tell.push(one.clone());
            }
        }
        (filled.judge(delta) == Verdict::Drop).then_some(tell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta((epoch, seq, call, n): (u32, u32, u32, u32)) -> Delta {
        Delta { seq, epoch, call, n, text: "word ".to_owned() }
    }

    fn stored(numbers: &[(u32, u32, u32, u32)]) -> Vec<Stored> {
        numbers.iter().map(|numbers| Stored::Delta(delta(*numbers))).collect()
    }

    fn backlog(stored: impl IntoIterator<Item = Stored>) -> Vec<Delta> {
        let mut backlog = Backlog::default();
        stored.into_iter().for_each(|stored| backlog.take(stored));
        backlog.finish()
    }

    fn ns(deltas: &[Delta]) -> Vec<u32> {
        deltas.iter().map(|delta| delta.n).collect()
    }

    #[test]
    fn a_backlog_is_the_newest_call_as_far_back_as_it_is_whole() {
        let all = [(1, 1, 1, 1), (1, 1, 2, 1), (1, 1, 1, 2), (1, 1, 2, 2), (1, 1, 2, 2), (1, 1, 2, 4), (1, 1, 2, 5)];
        assert_eq!(ns(&backlog(stored(&all[..4]))), [1, 2]);
        assert_eq!(ns(&backlog(stored(&all))), [4, 5]);
        assert_eq!(ns(&backlog(stored(&[(1, 9, 9, 9), (2, 1, 1, 1)]))), [1]);
    }

    #[test]
    fn a_journaled_step_and_an_end_void_what_was_spoken_of_them() {
        let with = |mark| {
            let mut all = stored(&[(1, 3, 1, 1), (1, 3, 1, 2)]);
            all.push(Stored::Mark(mark));
            backlog(all)
        };
        assert_eq!(ns(&with(Mark::Step(2))), [1, 2]);
        assert!(with(Mark::Step(3)).is_empty());
        assert!(with(Mark::End).is_empty());
        let late = [Stored::Mark(Mark::Step(3)), Stored::Delta(delta((1, 3, 1, 3)))];
        assert!(backlog(late).is_empty(), "a delta that comes after its step is void");
    }

    #[test]
    fn a_backlog_is_bounded() {
        let many = (1..=10_000).map(|n| Stored::Delta(delta((1, 1, 1, n))));
        let kept = backlog(many);
        assert!(kept.iter().map(size).sum::<usize>() <= BACKLOG_BYTES);
        assert!(kept.len() > 1000 && kept.last().unwrap().n == 10_000);
        let huge = Delta { text: "x".repeat(BACKLOG_BYTES + 1), ..delta((1, 1, 1, 1)) };
        assert!(backlog([Stored::Delta(huge)]).is_empty());
    }

    #[test]
    fn each_delta_is_told_once_and_gaps_are_noticed() {
        let mut heard = Heard::default();
        assert_eq!(heard.judge(&delta((1, 1, 1, 3))), Verdict::Gap);
        heard.told(&delta((1, 1, 1, 3)));
        assert_eq!(heard.judge(&delta((1, 1, 1, 3))), Verdict::Drop);
        assert_eq!(heard.judge(&delta((1, 1, 1, 4))), Verdict::Tell);
        assert_eq!(heard.judge(&delta((1, 1, 1, 5))), Verdict::Gap);
        assert_eq!(heard.judge(&delta((1, 1, 2, 1))), Verdict::Tell);
        assert_eq!(heard.judge(&delta((0, 9, 9, 1))), Verdict::Drop);
    }

    #[test]
    fn a_gap_is_filled_from_what_is_stored() {
        let mut heard = Heard::default();
        heard.told(&delta((1, 1, 1, 2)));
        let kept = |numbers: std::ops::RangeInclusive<u32>| numbers.map(|n| delta((1, 1, 1, n))).collect::<Vec<_>>();
        assert_eq!(heard.fill(&kept(1..=5), &delta((1, 1, 1, 5))).map(|tell| ns(&tell)), Some(vec![3, 4, 5]));
        assert_eq!(heard.fill(&kept(1..=7), &delta((1, 1, 1, 5))).map(|tell| ns(&tell)), Some(vec![3, 4, 5, 6, 7]));
        assert_eq!(heard.fill(&kept(1..=4), &delta((1, 1, 1, 5))).map(|tell| ns(&tell)), Some(vec![3, 4, 5]));
        assert_eq!(heard.fill(&kept(1..=3), &delta((1, 1, 1, 5))), None, "not stored yet");
        assert_eq!(heard.fill(&kept(4..=7), &delta((1, 1, 1, 5))), None, "lost");
        assert_eq!(heard.fill(&[delta((1, 1, 2, 1))], &delta((1, 1, 1, 5))), Some(vec![]), "void");
        assert_eq!(heard.fill(&[], &delta((1, 1, 1, 5))), None);
    }
}
