//! Who listens to steps, in all processes, so that steps that nobody listens to are not even copied.
//!
//! Listeners say so at once and every two seconds; whoever has not been heard of for six seconds is gone. A process that
//! just came counts everything as listened to. A step that is written in the moment in which its listener subscribes may
//! stay untold: the listener finds it with the next event of the task, or when it looks at the record by itself.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use domain::TaskId;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// How often listeners say that they are still there.
pub(crate) const BEACON: Duration = Duration::from_secs(2);
/// How long a listener counts that is not heard of.
const EXPIRY: Duration = Duration::from_secs(6);
/// How many tasks one message names.
const CHUNK: usize = 1000;
/// How many tasks of others are remembered; with more of them everything counts as listened to.
const MOST: usize = 100_000;

/// Who listens.
pub(crate) struct Interest {
    inner: Mutex<Inner>,
}

struct Inner {
    /// Subscribers of this process.
    own_everything: usize,
    own_tasks: HashMap<TaskId, usize>,
    /// Until when others listen.
    everything: Instant,
    tasks: HashMap<TaskId, Instant>,
}

/// What a subscriber of this process listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    Everything,
    Task(TaskId),
}

#[derive(Serialize, Deserialize)]
struct Beacon {
    v: u32,
    #[serde(default)]
    everything: bool,
    #[serde(default)]
    tasks: Vec<TaskId>,
}

impl Interest {
    pub(crate) fn new() -> Self {
        let inner = Inner {
            own_everything: 0,
            own_tasks: HashMap::new(),
            everything: Instant::now() + EXPIRY,
            tasks: HashMap::new(),
        };
        Self { inner: Mutex::new(inner) }
    }

    pub(crate) fn listens(&self, task: TaskId) -> bool {
        let inner = self.lock();
        if inner.own_everything > 0 || inner.own_tasks.contains_key(&task) {
            return true;
        }
        let now = Instant::now();
        inner.everything > now || inner.tasks.get(&task).is_some_and(|until| *until > now)
    }

    /// Counts a subscriber of this process; what it returns is to be told to the others at once.
    pub(crate) fn add(&self, topic: Topic) -> Option<Bytes> {
        let mut inner = self.lock();
        match topic {
            Topic::Everything => {
                inner.own_everything += 1;
                beacon(true, Vec::new())
            }
            Topic::Task(task) => {
                *inner.own_tasks.entry(task).or_default() += 1;
                beacon(false, vec![task])
            }
        }
    }

    pub(crate) fn remove(&self, topic: Topic) {
        let mut inner = self.lock();
        match topic {
            Topic::Everything => inner.own_everything -= 1,
            Topic::Task(task) => {
                if let Some(count) = inner.own_tasks.get_mut(&task) {
                    *count -= 1;
                    if *count == 0 {
                        inner.own_tasks.remove(&task);
                    }
                }
            }
        }
    }

    /// Counts everything as listened to until all others have had their turn: they may have been out of hearing.
    pub(crate) fn unknown(&self) {
        self.lock().everything = Instant::now() + EXPIRY;
    }

    /// Takes what another process, or this one, says.
    pub(crate) fn hear(&self, payload: &[u8]) {
        let beacon = serde_json::from_slice::<Beacon>(payload).ok().filter(|beacon| beacon.v == 1);
        let Some(beacon) = beacon else {
            metrics::counter!("events_dropped_total", "reason" => "undecodable").increment(1);
            return;
        };
        let until = Instant::now() + EXPIRY;
        let mut inner = self.lock();
        if beacon.everything || inner.tasks.len() + beacon.tasks.len() > MOST {
            inner.everything = inner.everything.max(until);
        } else {
            inner.tasks.extend(beacon.tasks.into_iter().map(|task| (task, until)));
        }
    }

    /// Forgets who is gone, and returns what to tell the others.
    pub(crate) fn beat(&self) -> Vec<Bytes> {
        let now = Instant::now();
        let mut inner = self.lock();
        inner.tasks.retain(|_, until| *until > now);
        if inner.own_everything > 0 {
            return beacon(true, Vec::new()).into_iter().collect();
        }
        let tasks: Vec<TaskId> = inner.own_tasks.keys().copied().collect();
        tasks.chunks(CHUNK).filter_map(|chunk| beacon(false, chunk.to_vec())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn beacon(everything: bool, tasks: Vec<TaskId>) -> Option<Bytes> {
    serde_json::to_vec(&Beacon { v: 1, everything, tasks }).ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(number: u128) -> TaskId {
        TaskId(uuid::Uuid::from_u128(number))
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_counts_until_it_is_silent() {
        let (here, there) = (Interest::new(), Interest::new());
        assert!(here.listens(task(1)), "not known yet");
        tokio::time::advance(EXPIRY).await;
        assert!(!here.listens(task(1)));
        here.hear(&there.add(Topic::Task(task(1))).unwrap());
        assert!(here.listens(task(1)) && !here.listens(task(2)));
        tokio::time::advance(EXPIRY / 2).await;
        there.beat().iter().for_each(|beacon| here.hear(beacon));
        tokio::time::advance(EXPIRY / 2).await;
        assert!(here.listens(task(1)));
        there.remove(Topic::Task(task(1)));
        assert!(there.beat().is_empty());
        tokio::time::advance(EXPIRY).await;
        assert!(!here.listens(task(1)));
        here.hear(&there.add(Topic::Everything).unwrap());
        assert!(here.listens(task(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn more_listeners_than_are_remembered_are_all_heard() {
        let here = Interest::new();
        tokio::time::advance(EXPIRY).await;
        for number in 0..=(MOST / CHUNK) {
            let tasks = (0..CHUNK).map(|one| task((number * CHUNK + one) as u128)).collect();
            here.hear(&beacon(false, tasks).unwrap());
        }
        assert!(here.listens(task(u128::MAX)));
        assert!(here.lock().tasks.len() <= MOST);
        here.hear(b"nonsense");
    }
}
