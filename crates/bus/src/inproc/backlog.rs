//! The deltas that late readers get first: of the call that is being spoken, and within bounds.

use std::collections::{BTreeMap, HashMap, VecDeque};

use domain::{Delta, TaskId};

/// The deltas of all tasks.
pub(super) struct Backlogs {
    task_limit: usize,
    total_limit: usize,
    tasks: HashMap<TaskId, Backlog>,
    /// Which backlog began when, the oldest first.
    begun: BTreeMap<u64, TaskId>,
    next: u64,
    bytes: usize,
}

struct Backlog {
    began: u64,
    spoken: Spoken,
    last: u32,
    deltas: VecDeque<Delta>,
    bytes: usize,
}

/// A later lease, a later step and a later call of the same step are each greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Spoken {
    epoch: u32,
    seq: u32,
    call: u32,
}

impl Backlogs {
    pub(super) fn new(task_limit: usize, total_limit: usize) -> Self {
        Self { task_limit, total_limit, tasks: HashMap::new(), begun: BTreeMap::new(), next: 0, bytes: 0 }
    }

    /// Keeps a delta; false when it is old: of a call that was superseded, or a number that was heard already.
    pub(super) fn add(&mut self, task: TaskId, delta: &Delta) -> bool {
        let spoken = Spoken { epoch: delta.epoch, seq: delta.seq, call: delta.call };
        match self.tasks.get(&task).map(|backlog| (backlog.spoken, backlog.last)) {
            Some((current, _)) if spoken < current => return false,
            Some((current, last)) if spoken == current && delta.n <= last => return false,
            Some((current, _)) if spoken == current => {}
            Some(_) | None => self.begin(task, spoken),
        }
        let Some(backlog) = self.tasks.get_mut(&task) else { return true };
        if delta.n != backlog.last + 1 {
            // Something was lost on the way: what came before no longer connects.
            self.bytes -= std::mem::take(&mut backlog.bytes);
            backlog.deltas.clear();
        }
        backlog.last = delta.n;
        let size = size(delta);
        backlog.deltas.push_back(delta.clone());
        backlog.bytes += size;
        self.bytes += size;
        while backlog.bytes > self.task_limit
            && let Some(oldest) = backlog.deltas.pop_front()
        {
            backlog.bytes -= self::size(&oldest);
            self.bytes -= self::size(&oldest);
        }
        while self.bytes > self.total_limit
            && let Some((_, oldest)) = self.begun.first_key_value()
        {
            self.remove(*oldest);
        }
        true
    }

    fn begin(&mut self, task: TaskId, spoken: Spoken) {
        self.remove(task);
        self.next += 1;
        self.begun.insert(self.next, task);
        self.tasks.insert(task, Backlog { began: self.next, spoken, last: 0, deltas: VecDeque::new(), bytes: 0 });
    }

    /// Forgets the deltas of a step that is in the journal now, and of earlier ones.
    pub(super) fn step_done(&mut self, task: TaskId, seq: u32) {
        if self.tasks.get(&task).is_some_and(|backlog| backlog.spoken.seq <= seq) {
            self.remove(task);
        }
    }

    /// Forgets a task's deltas.
    pub(super) fn remove(&mut self, task: TaskId) {
        if let Some(backlog) = self.tasks.remove(&task) {
            self.begun.remove(&backlog.began);
            self.bytes -= backlog.bytes;
        }
    }

    /// A task's deltas so far.
    pub(super) fn get(&self, task: TaskId) -> Vec<Delta> {
        self.tasks.get(&task).map(|backlog| backlog.deltas.iter().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn contains(&self, task: TaskId) -> bool {
        self.tasks.contains_key(&task)
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }
}

/// Small deltas cost more than their text.
fn size(delta: &Delta) -> usize {
    delta.text.len() + size_of::<Delta>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn task(number: u128) -> TaskId {
        TaskId(Uuid::from_u128(number))
    }

    fn delta(epoch: u32, seq: u32, call: u32, n: u32, text: &str) -> Delta {
        Delta { seq, epoch, call, n, text: text.to_owned() }
    }

    fn texts(backlogs: &Backlogs, of: u128) -> String {
        backlogs.get(task(of)).iter().map(|delta| delta.text.as_str()).collect()
    }

    #[test]
    fn a_task_s_oldest_deltas_make_room() {
        let mut backlogs = Backlogs::new(10 * (size_of::<Delta>() + 1), usize::MAX);
        for n in 1..=26 {
            backlogs.add(task(1), &delta(1, 1, 1, n, &char::from(b'a' + n as u8 - 1).to_string()));
        }
        assert_eq!(texts(&backlogs, 1), "qrstuvwxyz");
    }

    #[test]
    fn the_backlog_that_began_first_makes_room_for_the_others() {
        let mut backlogs = Backlogs::new(usize::MAX, 3 * (size_of::<Delta>() + 1));
        for of in 1..=4 {
            backlogs.add(task(of), &delta(1, 1, 1, 1, "x"));
        }
        assert_eq!((1..=4).map(|of| backlogs.get(task(of)).len()).collect::<Vec<_>>(), [0, 1, 1, 1]);
    }

    #[test]
    fn what_follows_a_gap_stands_alone() {
        let mut backlogs = Backlogs::new(usize::MAX, usize::MAX);
        for (n, text) in [(1, "a"), (2, "b"), (5, "e"), (6, "f")] {
            backlogs.add(task(1), &delta(1, 1, 1, n, text));
        }
        assert_eq!(texts(&backlogs, 1), "ef");
    }

    proptest! {
        #[test]
        fn the_bounds_hold_and_what_is_kept_is_one_call_in_order(
            all in prop::collection::vec((0..4_u128, 1..3_u32, 1..3_u32, 1..3_u32, 1..6_u32, 0..40_usize), 0..200)
        ) {
            let (task_limit, total_limit) = (400, 900);
            let mut backlogs = Backlogs::new(task_limit, total_limit);
            for (of, epoch, seq, call, n, length) in all {
                backlogs.add(task(of), &delta(epoch, seq, call, n, &"x".repeat(length)));
                if length == 7 {
                    backlogs.step_done(task(of), seq);
                }
                let mut total = 0;
                for of in 0..4 {
                    let kept = backlogs.get(task(of));
                    let bytes: usize = kept.iter().map(size).sum();
                    prop_assert!(bytes <= task_limit);
                    total += bytes;
                    for pair in kept.windows(2) {
                        prop_assert_eq!((pair[0].epoch, pair[0].seq, pair[0].call), (pair[1].epoch, pair[1].seq, pair[1].call));
                        prop_assert_eq!(pair[0].n + 1, pair[1].n);
                    }
                }
                prop_assert_eq!(total, backlogs.bytes);
                prop_assert!(total <= total_limit);
                prop_assert_eq!(backlogs.begun.len(), backlogs.tasks.len());
            }
        }
    }
}
