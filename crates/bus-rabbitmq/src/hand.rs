//! What the broker has handed over in advance: given to whoever waits, the most urgent first.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::ReadyTask;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A delivery as the broker knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) task: ReadyTask,
    /// Which session received it: its tag means nothing in another.
    pub(crate) session: u64,
    pub(crate) tag: u64,
    /// How often it was delivered before.
    pub(crate) deliveries: u32,
}

/// What one consumer has at hand, and who waits for it.
#[derive(Default)]
pub(crate) struct Hand {
    inner: Mutex<Inner>,
    arrived: Notify,
    wanted: Notify,
}

#[derive(Default)]
struct Inner {
    heap: BinaryHeap<Entry>,
    received: u64,
    waiters: usize,
    /// When the last waiter went.
    idle_since: Option<Instant>,
    closed: bool,
}

/// Ordered by who is next: the higher priority, then what came first.
#[derive(PartialEq, Eq)]
struct Entry {
    held: Held,
    number: u64,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |entry: &Self| (entry.held.task.priority, Reverse(entry.number));
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hand {
    /// Waits for a delivery; `None` once the hand is closed. A dropped call takes nothing.
    pub(crate) async fn next(&self) -> Option<Held> {
        let _waiter = self.wait();
        loop {
            let mut arrived = pin!(self.arrived.notified());
            // Registered before the look, so that what arrives after it is not missed.
            arrived.as_mut().enable();
            {
                let mut inner = self.lock();
                if let Some(entry) = inner.heap.pop() {
                    return Some(entry.held);
                }
                if inner.closed {
                    return None;
                }
            }
            arrived.await;
        }
    }

    pub(crate) fn put(&self, held: Held) {
        let mut inner = self.lock();
        inner.received += 1;
        let number = inner.received;
        inner.heap.push(Entry { held, number });
        drop(inner);
        self.arrived.notify_one();
    }

    /// Takes everything out, the oldest first.
    pub(crate) fn empty(&self) -> Vec<Held> {
        let mut entries = std::mem::take(&mut self.lock().heap).into_vec();
        entries.sort_unstable_by_key(|entry| entry.number);
        entries.into_iter().map(|entry| entry.held).collect()
    }

    /// Tells everybody who waits, and whoever comes, that nothing will come any more.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_waiters();
    }

    pub(crate) fn has_waiters(&self) -> bool {
        self.lock().waiters > 0
    }

    /// Waits until somebody waits for a delivery.
    pub(crate) async fn wanted(&self) {
        loop {
            let mut wanted = pin!(self.wanted.notified());
            wanted.as_mut().enable();
            if self.has_waiters() {
                return;
            }
            wanted.await;
        }
    }

    /// How long nobody has been waiting.
    pub(crate) fn idle(&self) -> Duration {
        let inner = self.lock();
        if inner.waiters > 0 {
            Duration::ZERO
        } else {
            inner.idle_since.map_or(Duration::ZERO, |since| since.elapsed())
        }
    }

    fn wait(&self) -> Waiter<'_> {
        self.lock().waiters += 1;
        self.wanted.notify_waiters();
        Waiter { hand: self }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Waiter<'a> {
    hand: &'a Hand,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut inner = self.hand.lock();
        inner.waiters -= 1;
        if inner.waiters == 0 {
            inner.idle_since = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{ExecutionMode, TaskId};
    use futures::FutureExt as _;

    use super::*;

    fn held(tag: u64, priority: u8) -> Held {
        let task = TaskId(uuid::Uuid::from_u128(u128::from(tag)));
        let task = ReadyTask { task, mode: ExecutionMode::Autonomous, priority };
        Held { task, session: 1, tag, deliveries: 0 }
    }

    #[tokio::test]
    async fn the_most_urgent_comes_first_then_the_oldest() {
        let hand = Hand::default();
        for (tag, priority) in [(1, 0), (2, 5), (3, 9), (4, 5)] {
            hand.put(held(tag, priority));
        }
        let mut tags = Vec::new();
        for _ in 0..4 {
            tags.push(hand.next().await.unwrap().tag);
        }
        assert_eq!(tags, [3, 2, 4, 1]);
    }

    #[tokio::test]
    async fn a_waiter_that_gives_up_after_it_was_woken_wakes_the_next() {
        let hand = Hand::default();
        let mut first = Box::pin(hand.next());
        let mut second = Box::pin(hand.next());
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        hand.put(held(1, 0));
        drop(first);
        assert_eq!(second.now_or_never().flatten(), Some(held(1, 0)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hand_is_idle_from_when_the_last_waiter_went() {
        let hand = Hand::default();
        let mut waiter = Box::pin(hand.next());
        assert!((&mut waiter).now_or_never().is_none());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((hand.idle(), hand.has_waiters()), (Duration::ZERO, true));
        drop(waiter);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((hand.idle(), hand.has_waiters()), (Duration::from_secs(1), false));
    }

    #[tokio::test]
    async fn a_closed_hand_keeps_nobody_waiting() {
        let hand = Hand::default();
        let mut waiter = Box::pin(hand.next());
        assert!((&mut waiter).now_or_never().is_none());
        hand.close();
        assert_eq!(waiter.await, None);
        assert_eq!(hand.next().await, None);
    }
}
