//! Messages within one process: what the embedded platform runs on, and what every test can start in a microsecond.
//!
//! Nothing here survives the process. That is enough: after a restart the record announces again what is ready.

mod backlog;
mod events;
mod mailbox;
mod queue;
mod requests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::{Event, ExecutionMode, ReadyTask, TaskId};
use futures::stream::BoxStream;

use crate::{
    BusError, Delivery, Events, Received, RequestHandler, Requests, ServeGuard, Settled, TaskEvents, WorkQueue,
};

/// The bounds of the in-process bus.
#[derive(Debug, Clone, Copy)]
pub struct InprocOptions {
    /// How many events wait for one subscriber before it misses some.
    pub subscriber_queue: usize,
    /// How many bytes of deltas are kept for late readers of one task.
    pub task_backlog_bytes: usize,
    /// How many bytes of deltas are kept in all.
    pub total_backlog_bytes: usize,
}

impl Default for InprocOptions {
    fn default() -> Self {
        Self { subscriber_queue: 1024, task_backlog_bytes: 256 << 10, total_backlog_bytes: 64 << 20 }
    }
}

/// The in-process bus: all three ports in one. Clones share it.
#[derive(Clone)]
pub struct InprocBus {
    queue: Arc<queue::Queues>,
    events: Arc<events::Topics>,
    requests: Arc<requests::Subjects>,
}

impl InprocBus {
    /// Makes an empty bus.
    pub fn new(options: InprocOptions) -> Self {
        Self { queue: Arc::default(), events: Arc::new(events::Topics::new(options)), requests: Arc::default() }
    }
}

impl Default for InprocBus {
    fn default() -> Self {
        Self::new(InprocOptions::default())
    }
}

#[async_trait]
impl WorkQueue for InprocBus {
    async fn announce(&self, tasks: &[ReadyTask]) -> Result<(), BusError> {
        self.queue.announce(tasks);
        failpoint::hit("C06");
        Ok(())
    }

    async fn next(&self, mode: ExecutionMode) -> Result<Delivery, BusError> {
        let task = self.queue.pool(mode).next().await;
        let queue = Arc::clone(&self.queue);
        Ok(Delivery::new(task, move |settled| {
            if settled == Settled::Returned {
                queue.announce(&[task]);
            }
        }))
    }

    fn depth(&self, mode: ExecutionMode) -> usize {
        self.queue.pool(mode).depth()
    }
}

#[async_trait]
impl Events for InprocBus {
    fn publish(&self, event: Event) {
        self.events.publish(event);
    }

    fn listens(&self, task: TaskId) -> bool {
        self.events.listens(task)
    }

    async fn subscribe(&self) -> Result<BoxStream<'static, Received>, BusError> {
        Ok(events::Topics::subscribe(&self.events))
    }

    async fn subscribe_ends(&self) -> Result<BoxStream<'static, Received>, BusError> {
        Ok(events::Topics::subscribe_ends(&self.events))
    }

    async fn subscribe_control(&self) -> Result<BoxStream<'static, Received>, BusError> {
        Ok(events::Topics::subscribe_control(&self.events))
    }

    async fn subscribe_task(&self, task: TaskId) -> Result<TaskEvents, BusError> {
        Ok(events::Topics::subscribe_task(&self.events, task))
    }
}

#[async_trait]
impl Requests for InprocBus {
    async fn request(&self, subject: &str, body: Bytes, timeout: Duration) -> Result<Bytes, BusError> {
        self.requests.request(subject, body, timeout).await
    }

    async fn serve(&self, subject: &str, handler: Arc<dyn RequestHandler>) -> Result<ServeGuard, BusError> {
        Ok(requests::Subjects::serve(&self.requests, subject, handler))
    }
}
