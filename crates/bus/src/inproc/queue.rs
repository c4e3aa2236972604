//! Ready tasks, one queue a pool.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::{ExecutionMode, ReadyTask, TaskId};
use tokio::sync::Notify;

/// The queues of all pools.
#[derive(Default)]
pub(super) struct Queues {
    autonomous: Pool,
    collaborative: Pool,
    continuous: Pool,
}

/// One pool's queue.
#[derive(Default)]
pub(super) struct Pool {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Default)]
struct Waiting {
    heap: BinaryHeap<Entry>,
    /// The entry that counts for each task: one that was announced again with a higher priority has an older one, too.
    current: HashMap<TaskId, Entry>,
    announced: u64,
}

/// Ordered by who is next: the higher priority, then the older announcement.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    task: ReadyTask,
    number: u64,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |entry: &Self| (entry.task.priority, Reverse(entry.number));
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Queues {
    pub(super) fn pool(&self, mode: ExecutionMode) -> &Pool {
        match mode {
            ExecutionMode::Autonomous => &self.autonomous,
            ExecutionMode::Collaborative => &self.collaborative,
            ExecutionMode::Continuous => &self.continuous,
        }
    }

    pub(super) fn announce(&self, tasks: &[ReadyTask]) {
        for &task in tasks {
            self.pool(task.mode).announce(task);
        }
    }
}

impl Pool {
    fn announce(&self, task: ReadyTask) {
        if self.lock().push(task) {
            self.arrived.notify_one();
        }
    }

    /// A dropped call takes nothing: whatever it was woken for wakes the next waiter instead.
    pub(super) async fn next(&self) -> ReadyTask {
        loop {
            if let Some(task) = self.lock().pop() {
                return task;
            }
            let mut arrived = pin!(self.arrived.notified());
            // Registered before the second look, so that what arrives after it is not missed.
            arrived.as_mut().enable();
            if let Some(task) = self.lock().pop() {
                return task;
            }
            arrived.await;
        }
    }

    pub(super) fn depth(&self) -> usize {
        self.lock().current.len()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Tells whether there is one more to take.
    fn push(&mut self, task: ReadyTask) -> bool {
        let known = self.current.get(&task.task).map(|entry| entry.task.priority);
        if known.is_some_and(|priority| priority >= task.priority) {
            return false;
        }
        self.announced += 1;
        let entry = Entry { task, number: self.announced };
        self.current.insert(task.task, entry);
        self.heap.push(entry);
        known.is_none()
    }

    fn pop(&mut self) -> Option<ReadyTask> {
        while let Some(entry) = self.heap.pop() {
            if self.current.get(&entry.task.task) == Some(&entry) {
                self.current.remove(&entry.task.task);
                return Some(entry.task);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    #[derive(Debug, Clone)]
    enum Action {
        Announce { task: u128, priority: u8 },
        Wait,
        GiveUp(usize),
        Poll(usize),
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            (0..12_u128, 0..3_u8).prop_map(|(task, priority)| Action::Announce { task, priority }),
            Just(Action::Wait),
            (0..8_usize).prop_map(Action::GiveUp),
            (0..8_usize).prop_map(Action::Poll),
        ]
    }

    fn poll<F: Future>(future: &mut Pin<Box<F>>) -> Option<F::Output> {
        match future.as_mut().poll(&mut Context::from_waker(futures::task::noop_waker_ref())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    proptest! {
        /// A model of what waits: whoever gives up, at any moment, takes nothing with it, and the order holds.
        #[test]
        fn a_waiter_that_gives_up_takes_nothing(actions in prop::collection::vec(action(), 0..60)) {
            let pool = Pool::default();
            let mut waiters = Vec::new();
            let mut model: Vec<(u128, u8)> = Vec::new();
            let take = |model: &mut Vec<(u128, u8)>| {
                let best = model.iter().map(|(_, priority)| *priority).max()?;
                let at = model.iter().position(|(_, priority)| *priority == best)?;
                Some(model.remove(at))
            };
            let check = |got: ReadyTask, expected: Option<(u128, u8)>| {
                prop_assert_eq!(Some((got.task.0.as_u128(), got.priority)), expected);
                Ok(())
            };
            for action in actions {
                match action {
                    Action::Announce { task, priority } => {
                        pool.announce(ReadyTask {
                            task: TaskId(Uuid::from_u128(task)),
                            mode: ExecutionMode::Autonomous,
                            priority,
                        });
                        match model.iter().position(|(known, _)| *known == task) {
                            Some(at) if model[at].1 < priority => {
                                model.remove(at);
                                model.push((task, priority));
                            }
                            Some(_) => {}
                            None => model.push((task, priority)),
                        }
                    }
                    Action::Wait => {
                        let mut waiter = Box::pin(pool.next());
                        match poll(&mut waiter) {
                            Some(got) => check(got, take(&mut model))?,
                            None => waiters.push(waiter),
                        }
                    }
                    Action::GiveUp(at) if at < waiters.len() => drop(waiters.remove(at)),
                    Action::Poll(at) if at < waiters.len() => {
                        if let Some(got) = poll(&mut waiters[at]) {
                            drop(waiters.remove(at));
                            check(got, take(&mut model))?;
                        }
                    }
                    Action::GiveUp(_) | Action::Poll(_) => {}
                }
                prop_assert_eq!(pool.depth(), model.len());
            }
            // Whoever was woken takes something; nobody may be left asleep beside a task.
            let mut asleep = 0;
            for waiter in &mut waiters {
                match poll(waiter) {
                    Some(got) => check(got, take(&mut model))?,
                    None => asleep += 1,
                }
            }
            prop_assert!(model.is_empty() || asleep == 0, "{asleep} waiters sleep beside {model:?}");
        }
    }
}
