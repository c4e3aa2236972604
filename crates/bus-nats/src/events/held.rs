//! Deltas that nobody listens to are held back for a moment: most of them are voided by their step before anybody could
//! have heard them, and then they never travel.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use domain::{Delta, Event, EventBody, TaskId};
use tokio::time::Instant;

use super::publisher::SPEAKERS;

/// How long: less than a person notices.
const HOLD: Duration = Duration::from_millis(30);
/// How many deltas are held at most; above that they travel at once.
const MOST: usize = 4_096;

/// The deltas that are held back.
#[derive(Default)]
pub(super) struct Held {
    tasks: HashMap<TaskId, Vec<Event>>,
    /// Until when which task's are held, the first first. Some are gone already.
    until: VecDeque<(Instant, TaskId)>,
    count: usize,
    /// Tasks whose deltas travel.
    flowing: HashSet<TaskId>,
}

impl Held {
    /// Holds a delta back, or returns what travels now: it and those before it.
    pub(super) fn delta(&mut self, task: TaskId, event: Event, heard: bool) -> Vec<Event> {
        if heard || self.count >= MOST || self.flowing.contains(&task) {
            let mut travelling = self.release(task);
            self.flows(task);
            travelling.push(event);
            return travelling;
        }
        let held = self.tasks.entry(task).or_insert_with(|| {
            self.until.push_back((Instant::now() + HOLD, task));
            Vec::new()
        });
        held.push(event);
        self.count += 1;
        Vec::new()
    }

    /// A step voids the deltas up to its own; true when some of them have travelled.
    pub(super) fn step(&mut self, task: TaskId, seq: u32) -> bool {
        if let Some(held) = self.tasks.get_mut(&task) {
            let before = held.len();
            held.retain(
                |event| matches!(&event.body, EventBody::TaskDelta { delta: Delta { seq: of, .. }, .. } if *of > seq),
            );
            self.count -= before - held.len();
        }
        self.flowing.remove(&task)
    }

    /// An end voids all deltas; true when some of them have travelled.
    pub(super) fn end(&mut self, task: TaskId) -> bool {
        if let Some(held) = self.tasks.remove(&task) {
            self.count -= held.len();
        }
        self.flowing.remove(&task)
    }

    /// When the next one has been held for long enough.
    pub(super) fn next(&self) -> Option<Instant> {
        self.until.front().map(|(until, _)| *until)
    }

    /// What has been held for long enough, in order.
    pub(super) fn due(&mut self) -> Vec<Event> {
        let now = Instant::now();
        let mut due = Vec::new();
        while let Some((_, task)) = self.until.pop_front_if(|(until, _)| *until <= now) {
            let held = self.release(task);
            if !held.is_empty() {
                self.flows(task);
            }
            due.extend(held);
        }
        due
    }

    fn release(&mut self, task: TaskId) -> Vec<Event> {
        let held = self.tasks.remove(&task).unwrap_or_default();
        self.count -= held.len();
        held
    }

    fn flows(&mut self, task: TaskId) {
        // Bounded as those who speak are: what is forgotten is voided by its end or its age instead of by its step.
        if self.flowing.len() >= SPEAKERS {
            self.flowing.clear();
        }
        self.flowing.insert(task);
    }
}

#[cfg(test)]
mod tests {
    use domain::Namespace;

    use super::*;

    fn task(number: u128) -> TaskId {
        TaskId(uuid::Uuid::from_u128(number))
    }

    fn delta(of: u128, seq: u32, n: u32) -> Event {
        let delta = Delta { seq, epoch: 1, call: 1, n, text: "word ".to_owned() };
        Event { namespace: Namespace::default(), body: EventBody::TaskDelta { task: task(of), delta } }
    }

    fn silent(held: &mut Held, of: u128, seq: u32, n: u32) -> Vec<Event> {
        held.delta(task(of), delta(of, seq, n), false)
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_answer_never_travels() {
        let mut held = Held::default();
        assert!(silent(&mut held, 1, 1, 1).is_empty() && silent(&mut held, 1, 2, 1).is_empty());
        assert!(silent(&mut held, 2, 1, 1).is_empty());
        assert!(!held.step(task(1), 1) && !held.end(task(2)));
        tokio::time::advance(HOLD).await;
        assert_eq!(held.due(), [delta(1, 2, 1)], "what follows the step is not void");
        assert_eq!((held.count, held.next()), (0, None));
        assert!(held.step(task(1), 2) && !held.step(task(1), 3), "its mark is needed, once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_answer_travels_after_a_moment_and_from_then_on_at_once() {
        let mut held = Held::default();
        assert!(silent(&mut held, 1, 1, 1).is_empty() && silent(&mut held, 1, 1, 2).is_empty());
        assert!(held.due().is_empty());
        tokio::time::advance(HOLD).await;
        assert_eq!(held.due(), [delta(1, 1, 1), delta(1, 1, 2)]);
        assert_eq!(silent(&mut held, 1, 1, 3), [delta(1, 1, 3)]);
        assert!(held.end(task(1)));
        assert!(silent(&mut held, 1, 2, 1).is_empty(), "another life");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_listened_to_travels_in_order() {
        let mut held = Held::default();
        assert!(silent(&mut held, 1, 1, 1).is_empty());
        assert_eq!(held.delta(task(1), delta(1, 1, 2), true), [delta(1, 1, 1), delta(1, 1, 2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_is_bounded() {
        let mut held = Held::default();
        for number in 0..MOST as u128 {
            assert!(silent(&mut held, number, 1, 1).is_empty());
        }
        assert_eq!(silent(&mut held, 1 << 20, 1, 1).len(), 1);
        tokio::time::advance(HOLD).await;
        assert_eq!(held.due().len(), MOST);
    }
}
