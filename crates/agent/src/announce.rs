//! Telling the others what a write to the record changed.
//!
//! Everything here happens after the commit and is only a hint: an error of the bus is logged and swallowed, because the
//! sweeper finds in the record whatever was never announced.

use std::sync::Arc;

use bus::{Events, WorkQueue};
use domain::{Event, EventBody, Namespace, ReadyTask, Task, TaskStatus};
use state::Transition;
use tracing::warn;

/// Announces transitions on the work queue and as events.
#[derive(Clone)]
pub struct Announcer {
    /// Hands ready tasks to the pools.
    pub queue: Arc<dyn WorkQueue>,
    /// Tells whoever listens.
    pub events: Arc<dyn Events>,
}

impl Announcer {
    /// Announces what a write made ready, ended, or asked to stop.
    pub async fn transition(&self, namespace: &Namespace, transition: &Transition) {
        for task in &transition.stopping {
            self.publish(namespace, EventBody::CancelRequested { task: *task });
        }
        for (task, status) in &transition.ended {
            self.publish(namespace, EventBody::TaskFinished { task: *task, status: *status });
        }
        for ready in &transition.ready {
            self.progress(namespace, EventBody::TaskStatus { task: ready.task, status: TaskStatus::Queued });
        }
        self.ready(&transition.ready).await;
    }

    /// Announces a task that was just recorded.
    ///
    /// One that may not start yet is only told to listeners; the sweeper announces it when its time has come.
    pub async fn created(&self, task: &Task) {
        let created = EventBody::TaskCreated { task: task.id, agent: task.agent.clone() };
        self.progress(&task.namespace, created);
        let may_start = task.run_at.is_none_or(|at| at <= task.created_at);
        if task.status == TaskStatus::Queued && may_start {
            self.ready(&[ReadyTask { task: task.id, mode: task.mode, priority: task.priority }]).await;
        }
    }

    async fn ready(&self, tasks: &[ReadyTask]) {
        if tasks.is_empty() {
            return;
        }
        failpoint::hit("C05");
        if let Err(error) = self.queue.announce(tasks).await {
            warn!(%error, tasks = tasks.len(), "ready tasks could not be announced; the sweeper will do it");
        }
        failpoint::hit("C08");
    }

    /// Tells that a worker has begun with a task.
    pub fn running(&self, task: &Task) {
        self.progress(&task.namespace, EventBody::TaskStatus { task: task.id, status: TaskStatus::Running });
    }

    /// Tells whoever watches a task; nothing is made of it when nobody does.
    pub(crate) fn progress(&self, namespace: &Namespace, body: EventBody) {
        if body.task().is_none_or(|task| self.events.listens(task)) {
            self.publish(namespace, body);
        }
    }

    pub(crate) fn publish(&self, namespace: &Namespace, body: EventBody) {
        self.events.publish(Event { namespace: namespace.clone(), body });
    }
}
