//! Messages between services: ready tasks for pools, events for whoever listens, and requests.
//!
//! Messages are hints. Losing, repeating or reordering any of them costs time, never work: the record tells the rest.

pub mod contract;
mod delivery;
mod error;
pub mod inproc;

use std::sync::Arc;

use async_trait::async_trait;
use domain::{Delta, Event, ExecutionMode, ReadyTask, TaskId};
use futures::stream::BoxStream;

pub use delivery::{Delivery, Settled};
pub use error::BusError;
pub use inproc::{InprocBus, InprocOptions};

/// Hands ready tasks to pools.
#[async_trait]
pub trait WorkQueue: Send + Sync + 'static {
    /// Announces ready tasks. A task that is announced twice may be delivered twice.
    async fn announce(&self, tasks: &[ReadyTask]) -> Result<(), BusError>;

    /// Waits for the next ready task of a pool: the highest priority first, then the oldest announcement. A broker keeps
    /// that order exactly among what it has handed to this process, and roughly beyond.
    ///
    /// Cancel-safe: a dropped call takes nothing. The delivery is to be settled at once; see [`Delivery`].
    async fn next(&self, mode: ExecutionMode) -> Result<Delivery, BusError>;

    /// How many announcements wait for a pool; of a broker what was last seen, about a second ago.
    fn depth(&self, mode: ExecutionMode) -> usize;
}

/// Tells what happened.
#[async_trait]
pub trait Events: Send + Sync + 'static {
    /// Tells it to every subscriber; costs next to nothing when nobody listens. Deltas are kept for late readers, until
    /// their step is journaled or their task ends, or their bounds are reached.
    fn publish(&self, event: Event);

    /// Tells whether publishing an event of this task would reach or change anything; true when that is not known. Saves
    /// the copy of a step that nobody would read.
    fn listens(&self, _task: TaskId) -> bool {
        true
    }

    /// Listens to everything but deltas. A slow listener misses events and is told `Received::Missed`.
    async fn subscribe(&self) -> Result<BoxStream<'static, Received>, BusError>;

    /// Listens to the ends of all tasks. Unlike `subscribe`, it does not make `listens` true.
    async fn subscribe_ends(&self) -> Result<BoxStream<'static, Received>, BusError>;

    /// Listens to what services tell each other: cancellations, new versions of agents, reports of pools. Unlike
    /// `subscribe`, it does not make `listens` true.
    async fn subscribe_control(&self) -> Result<BoxStream<'static, Received>, BusError>;

    /// Listens to one task, deltas included; the deltas of the step that is being spoken come first.
    async fn subscribe_task(&self, task: TaskId) -> Result<TaskEvents, BusError>;
}

/// One task's events.
pub struct TaskEvents {
    /// The deltas that were spoken before, in order: of one step, one epoch and one call.
    pub backlog: Vec<Delta>,
    /// What follows, without gap or overlap to the backlog.
    pub live: BoxStream<'static, Received>,
}

/// What a subscriber receives.
#[derive(Debug, Clone)]
pub enum Received {
    /// An event.
    Event(Arc<Event>),
    /// Events were missed: read the record.
    Missed,
}

/// Asks other services and answers them.
#[async_trait]
pub trait Requests: Send + Sync + 'static {
    /// Asks whoever serves `subject`; `BusError::NoResponder` at once when nobody does.
    async fn request(
        &self,
        subject: &str,
        body: bytes::Bytes,
        timeout: std::time::Duration,
    ) -> Result<bytes::Bytes, BusError>;

    /// Serves `subject` until the returned guard is dropped. Several servers of one subject share its requests.
    async fn serve(&self, subject: &str, handler: Arc<dyn RequestHandler>) -> Result<ServeGuard, BusError>;
}

/// Answers requests.
#[async_trait]
pub trait RequestHandler: Send + Sync + 'static {
    /// Answers one request.
    async fn handle(&self, body: bytes::Bytes) -> bytes::Bytes;
}

/// Stops serving when it is dropped.
pub struct ServeGuard {
    stop: Option<Box<dyn FnOnce() + Send>>,
}

impl ServeGuard {
    /// Runs `stop` when the guard is dropped.
    pub fn new(stop: impl FnOnce() + Send + 'static) -> Self {
        Self { stop: Some(Box::new(stop)) }
    }
}

impl Drop for ServeGuard {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop();
        }
    }
}
