//! Work that comes in while earlier work is under way is done together: no timer and no fixed size, and who is alone waits
//! for nobody.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;

/// The bounds of a gathering.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How many batches are under way at once, those that are slow aside.
    pub lanes: usize,
    /// A batch that takes longer holds up no other.
    pub slow: Duration,
    /// The least jobs of a batch that begins beside another one.
    pub beside: usize,
    /// The most jobs of a batch.
    pub jobs: usize,
    /// The most bytes of a batch; a larger job is a batch of its own.
    pub bytes: usize,
}

/// Gathers jobs into batches. Dropping it leaves what was put in to be done.
pub struct Gather<J> {
    shared: Arc<Shared<J>>,
}

struct Shared<J> {
    bounds: Bounds,
    perform: Box<dyn Fn(Vec<J>) -> BoxFuture<'static, ()> + Send + Sync>,
    inner: Mutex<Inner<J>>,
}

struct Inner<J> {
    waiting: VecDeque<(J, usize)>,
    lanes: usize,
}

impl<J: Send + 'static> Gather<J> {
    /// `perform` does a batch, in the order in which its jobs were put in; it answers whoever waits by itself.
    pub fn new(bounds: Bounds, perform: impl Fn(Vec<J>) -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        let inner = Mutex::new(Inner { waiting: VecDeque::new(), lanes: 0 });
        Self { shared: Arc::new(Shared { bounds, perform: Box::new(perform), inner }) }
    }

    /// Puts in a job of about so many bytes. Must be called in a Tokio runtime.
    pub fn put(&self, job: J, bytes: usize) {
        let mut inner = self.shared.lock();
        inner.waiting.push_back((job, bytes));
        let Bounds { lanes, beside, .. } = self.shared.bounds;
        if inner.lanes == 0 || (inner.lanes < lanes && inner.waiting.len() >= beside) {
            inner.lanes += 1;
            drop(inner);
            let shared = Arc::clone(&self.shared);
            tokio::spawn(async move { shared.run().await });
        }
    }
}

impl<J> Shared<J> {
    /// One lane: does batches until nothing is left.
    async fn run(&self) {
        while let Some(batch) = self.take() {
            // It goes on by itself when it is slow; one that panics, which is said by the panic itself, answers nobody.
            let performing = tokio::spawn((self.perform)(batch));
            let _ = tokio::time::timeout(self.bounds.slow, performing).await;
        }
    }

    /// Takes a batch; none: the lane has ended.
    fn take(&self) -> Option<Vec<J>> {
        let mut inner = self.lock();
        if inner.waiting.is_empty() {
            inner.lanes -= 1;
            return None;
        }
        let mut room = self.bounds.bytes;
        let mut count = 0;
        for (_, bytes) in inner.waiting.iter().take(self.bounds.jobs.max(1)) {
            if count > 0 && *bytes > room {
                break;
            }
            room = room.saturating_sub(*bytes);
            count += 1;
        }
        Some(inner.waiting.drain(..count).map(|(job, _)| job).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Inner<J>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    const SLOW: Duration = Duration::from_secs(60);

    /// A batch that was begun, and goes on when this is dropped.
    type Begun = (Vec<u32>, oneshot::Sender<()>);

    /// A gathering whose batches wait until they are let go.
    fn held(bounds: Bounds) -> (Gather<u32>, mpsc::UnboundedReceiver<Begun>) {
        let (begun, batches) = mpsc::unbounded_channel();
        let gather = Gather::new(bounds, move |batch: Vec<u32>| {
            let begun = begun.clone();
            Box::pin(async move {
                let (go, gone) = oneshot::channel();
                let panics = batch.contains(&13);
                let _ = begun.send((batch, go));
                let _ = gone.await;
                assert!(!panics, "unlucky");
            })
        });
        (gather, batches)
    }

    #[tokio::test]
    async fn what_comes_in_meanwhile_is_done_together_and_in_order() {
        let (gather, mut batches) = held(Bounds { lanes: 1, slow: SLOW, beside: 1, jobs: 3, bytes: 100 });
        gather.put(1, 1);
        let (batch, go) = batches.recv().await.unwrap();
        assert_eq!(batch, [1]);
        (2..=8).for_each(|job| gather.put(job, if job == 7 { 1_000 } else { 1 }));
        assert!(batches.try_recv().is_err(), "one lane");
        drop(go);
        for expected in [vec![2, 3, 4], vec![5, 6], vec![7], vec![8]] {
            assert_eq!(batches.recv().await.unwrap().0, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_batch_holds_up_no_other() {
        let (gather, mut batches) = held(Bounds { lanes: 1, slow: SLOW, beside: 1, jobs: 3, bytes: 100 });
        gather.put(1, 1);
        let slow = batches.recv().await.unwrap();
        gather.put(2, 1);
        let begun = tokio::time::Instant::now();
        assert_eq!(batches.recv().await.unwrap().0, [2]);
        assert_eq!(begun.elapsed(), SLOW);
        drop(slow);
    }

    #[tokio::test]
    async fn as_many_batches_as_lanes_are_under_way_and_a_panic_costs_none() {
        let (gather, mut batches) = held(Bounds { lanes: 2, slow: SLOW, beside: 2, jobs: 10, bytes: 100 });
        for round in 0..20 {
            gather.put(13, 1);
            let first = batches.recv().await.unwrap();
            gather.put(1, 1);
            tokio::task::yield_now().await;
            assert!(batches.try_recv().is_err(), "round {round}: not worth a second lane");
            gather.put(2, 1);
            let second = batches.recv().await.unwrap();
            gather.put(3, 1);
            gather.put(4, 1);
            tokio::task::yield_now().await;
            assert!(batches.try_recv().is_err(), "round {round}: no third lane");
            drop((first, second));
            drop(batches.recv().await.unwrap());
            while gather.shared.lock().lanes > 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}
