//! Who waits for the end of which task: told from one subscription for all, so that a wait costs the bus nothing.
//!
//! What is told is a hint. Whoever waits reads the record when it was told, when something may have been missed, and every
//! few seconds in any case.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::{Namespace, TaskId};
use tokio::sync::watch;

/// How many tasks that were submitted here are remembered: of those, one read of the record is saved when they are waited for.
const YOUNG: usize = 10_000;

/// The ends that are waited for. Every copy of the service listens for itself.
#[derive(Default)]
pub struct Ends {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    waited_for: HashMap<TaskId, watch::Sender<()>>,
    listening: bool,
    /// Tasks that were submitted here and whose end was not told, while nothing was missed.
    young: HashMap<TaskId, Namespace>,
    /// The same in the order in which they came, and some that are gone.
    order: VecDeque<TaskId>,
}

impl Ends {
    /// Ends can be heard from now on, or cannot any more.
    pub(crate) fn listening(&self, listening: bool) {
        self.lock().listening = listening;
        self.missed();
    }

    /// Ends may have been missed: whoever waits looks for itself.
    pub(crate) fn missed(&self) {
        let mut inner = self.lock();
        inner.young.clear();
        inner.order.clear();
        for told in inner.waited_for.values() {
            told.send_replace(());
        }
    }

    /// A task has ended.
    pub(crate) fn ended(&self, task: TaskId) {
        let mut inner = self.lock();
        inner.young.remove(&task);
        if let Some(told) = inner.waited_for.get(&task) {
            told.send_replace(());
        }
    }

    /// A task is about to be recorded. To be said before it is, so that its end cannot come first.
    pub(super) fn submitting(&self, namespace: &Namespace, task: TaskId) {
        let mut inner = self.lock();
        if !inner.listening {
            return;
        }
        if inner.order.len() >= YOUNG
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.young.remove(&oldest);
        }
        inner.young.insert(task, namespace.clone());
        inner.order.push_back(task);
    }

    /// The task was not recorded after all.
    pub(super) fn not_submitted(&self, task: TaskId) {
        self.lock().young.remove(&task);
    }

    /// Begins to wait for a task: what is told from now on is not missed.
    pub(super) fn wait(self: &Arc<Self>, namespace: &Namespace, task: TaskId) -> Waiting {
        let mut inner = self.lock();
        let goes_on = inner.young.get(&task) == Some(namespace);
        let told = inner.waited_for.entry(task).or_default().subscribe();
        metrics::gauge!("task_waits").increment(1.0);
        Waiting { ends: Arc::clone(self), task, told, goes_on }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that waits for a task.
pub(super) struct Waiting {
    ends: Arc<Ends>,
    task: TaskId,
    told: watch::Receiver<()>,
    /// The task exists in the namespace and had not ended when the wait began: there is no need to look.
    pub(super) goes_on: bool,
}

impl Waiting {
    /// Waits until the task ended, or something was missed.
    pub(super) async fn told(&mut self) {
        if self.told.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        metrics::gauge!("task_waits").decrement(1.0);
        let mut inner = self.ends.lock();
        if inner.waited_for.get(&self.task).is_some_and(|told| told.receiver_count() <= 1) {
            inner.waited_for.remove(&self.task);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn task(number: u128) -> TaskId {
        TaskId(uuid::Uuid::from_u128(number))
    }

    fn here() -> Namespace {
        Namespace::default()
    }

    fn listening() -> Arc<Ends> {
        let ends = Arc::new(Ends::default());
        ends.listening(true);
        ends
    }

    #[test]
    fn everybody_who_waits_for_a_task_is_told_and_nobody_else() {
        let ends = listening();
        let (mut first, mut second, mut other) =
            (ends.wait(&here(), task(1)), ends.wait(&here(), task(1)), ends.wait(&here(), task(2)));
        ends.ended(task(1));
        assert!(first.told().now_or_never().is_some() && second.told().now_or_never().is_some());
        assert!(first.told().now_or_never().is_none() && other.told().now_or_never().is_none());
        ends.missed();
        assert!(first.told().now_or_never().is_some() && other.told().now_or_never().is_some());
        drop((first, second));
        assert_eq!(ends.lock().waited_for.len(), 1);
        drop(other);
        assert!(ends.lock().waited_for.is_empty());
    }

    #[test]
    fn a_task_that_was_submitted_here_goes_on_until_its_end_is_told_or_may_have_been_missed() {
        let ends = listening();
        for number in 1..=4 {
            ends.submitting(&here(), task(number));
        }
        let goes_on = |number| ends.wait(&here(), task(number)).goes_on;
        assert!(goes_on(1) && goes_on(2) && !goes_on(5));
        assert!(!ends.wait(&Namespace::new("other").unwrap(), task(1)).goes_on);
        ends.ended(task(1));
        ends.not_submitted(task(2));
        assert!(!goes_on(1) && !goes_on(2) && goes_on(3));
        ends.missed();
        assert!(!goes_on(3) && !goes_on(4));
        ends.listening(false);
        ends.submitting(&here(), task(6));
        assert!(!goes_on(6), "its end would not be heard");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let ends = listening();
        for number in 0..=YOUNG as u128 {
            ends.submitting(&here(), task(number));
        }
        let inner = ends.lock();
        assert_eq!((inner.young.len(), inner.order.len()), (YOUNG, YOUNG));
        assert!(!inner.young.contains_key(&task(0)));
    }
}
