//! Telling others of steps, once they are durable.

use std::sync::Arc;

use domain::{AgentName, EventBody, Lease, Namespace, Step, TaskId, TaskStatus};
use state::{NewStep, Transition};

use crate::Announcer;

/// Steps to be told of after their commit; empty when nobody listens.
pub(super) struct Told {
    task: TaskId,
    steps: Vec<Arc<Step>>,
}

impl Told {
    pub(super) fn publish(self, announcer: &Announcer, namespace: &Namespace) {
        for step in self.steps {
            announcer.publish(namespace, EventBody::TaskStep { task: self.task, step });
        }
    }
}

impl Announcer {
    /// Copies steps that are about to be written, if anybody listens to their task.
    pub(super) fn steps(&self, lease: Lease, steps: &[NewStep]) -> Told {
        let steps = if self.events.listens(lease.task) {
            steps
                .iter()
                .map(|step| Arc::new(Step { seq: step.seq, epoch: lease.epoch, at: step.at, body: step.body.clone() }))
                .collect()
        } else {
            Vec::new()
        };
        Told { task: lease.task, steps }
    }

    /// Tells that a task waits (unless it was woken at once) and that its sub-tasks were made.
    pub(super) fn parked(
        &self,
        namespace: &Namespace,
        task: TaskId,
        children: &[(TaskId, AgentName)],
        transition: &Transition,
    ) {
        for (child, agent) in children {
            self.progress(namespace, EventBody::TaskCreated { task: *child, agent: agent.clone() });
        }
        let moved_on = transition.ready.iter().any(|ready| ready.task == task)
            || transition.ended.iter().any(|(ended, _)| *ended == task);
        if !moved_on {
            self.progress(namespace, EventBody::TaskStatus { task, status: TaskStatus::Waiting });
        }
    }
}
