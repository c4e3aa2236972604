//! A ready task on its way to a worker: taken for good once it is claimed, and back in the queue if it never was.

use std::fmt;

use domain::ReadyTask;

/// A ready task that was handed to one consumer.
///
/// Whoever takes it claims the task and calls [`done`](Self::done) right after, before the run begins: no run holds a
/// delivery. One that is dropped undone, by a panic too, goes back to the queue and is delivered again.
#[must_use = "a delivery that is dropped goes back to the queue"]
pub struct Delivery {
    /// The task.
    pub task: ReadyTask,
    settle: Option<Box<dyn FnOnce(Settled) + Send + Sync>>,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The hint was used, whatever it was worth.
    Done,
    /// Nobody looked at the task: somebody else may.
    Returned,
}

impl Delivery {
    /// Makes a delivery. `settle` is called exactly once, from any thread, and must neither block nor panic.
    pub fn new(task: ReadyTask, settle: impl FnOnce(Settled) + Send + Sync + 'static) -> Self {
        Self { task, settle: Some(Box::new(settle)) }
    }

    /// Takes it out of the queue for good. Costs no waiting: a broker hears of it in the background, and may deliver the
    /// task again when it is lost before it did.
    pub fn done(mut self) {
        self.settle(Settled::Done);
    }

    fn settle(&mut self, settled: Settled) {
        if let Some(settle) = self.settle.take() {
            settle(settled);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.settle(Settled::Returned);
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("task", &self.task).finish_non_exhaustive()
    }
}
