//! A worker that a test leads by hand, step by step.

use std::sync::Arc;

use bus::Events;
use domain::{
    Delta, Event, EventBody, Failure, FailureKind, FinishReason, Lease, ModelStep, Namespace, Step, StepBody, TaskId,
    Usage, Wait, WorkerId,
};
use state::{Claim, Finish, NewStep, NewThreadMessage, Outcome, Park};
use uuid::Uuid;

use crate::platform::Platform;

/// A held task.
pub(crate) struct Run<'a> {
    platform: &'a Platform,
    pub(crate) lease: Lease,
    pub(crate) next: u32,
}

pub(crate) fn worker_id() -> WorkerId {
    WorkerId(Uuid::from_u128(7))
}

pub(crate) fn spoken(text: &str) -> StepBody {
    StepBody::Model(ModelStep {
        model: "scripted/test".to_owned(),
        text: text.to_owned(),
        tool_calls: Vec::new(),
        finish: FinishReason::Stop,
        usage: Usage::tokens(3, 4),
        structured: false,
        duration_ms: 1,
        reasoning: Vec::new(),
        tries: Vec::new(),
    })
}

impl<'a> Run<'a> {
    /// Claims a task that must be ready.
    pub(crate) async fn of(platform: &'a Platform, task: TaskId) -> Self {
        let claim = Claim { task, worker: worker_id(), now: platform.clock.now(), thread_messages: 40 };
        let claimed = platform.state.claim(claim).await.unwrap().expect("the task can be claimed");
        let next = claimed.steps.last().map_or(0, |step| step.seq + 1);
        Self { platform, lease: claimed.lease(), next }
    }

    /// Journals a step and tells it.
    pub(crate) async fn step(&mut self, body: StepBody) {
        let step = self.journal(body).await;
        self.publish(EventBody::TaskStep { task: self.lease.task, step: Arc::new(step) });
    }

    /// Journals a step, and dies before it tells anybody.
    pub(crate) async fn journal(&mut self, body: StepBody) -> Step {
        let step = self.take(body);
        self.platform.state.append(self.lease, vec![step.clone()]).await.unwrap();
        Step { seq: step.seq, epoch: self.lease.epoch, at: step.at, body: step.body }
    }

    /// Speaks a piece of the step that comes next.
    pub(crate) fn say(&self, call: u32, n: u32) {
        let delta = Delta { seq: self.next, epoch: self.lease.epoch, call, n, text: format!("{n} ") };
        self.publish(EventBody::TaskDelta { task: self.lease.task, delta });
    }

    pub(crate) async fn succeed(mut self, text: &str) {
        let step = self.take(spoken(text));
        let told = Step { seq: step.seq, epoch: self.lease.epoch, at: step.at, body: step.body.clone() };
        let messages = vec![NewThreadMessage { role: "assistant", text: text.to_owned() }];
        self.end(Outcome::Succeeded, vec![step], messages, vec![told]).await;
    }

    pub(crate) async fn fail(self) {
        let failure = Failure::new(FailureKind::ModelRefused, "the provider refused the request");
        self.end(Outcome::Failed(failure), Vec::new(), Vec::new(), Vec::new()).await;
    }

    pub(crate) async fn stop_as_cancelled(self) {
        self.end(Outcome::Cancelled, Vec::new(), Vec::new(), Vec::new()).await;
    }

    pub(crate) async fn park(mut self, waits: Vec<Wait>) {
        let (seq, at) = (self.next, self.platform.clock.now());
        self.next += 1;
        let park = Park { steps: Vec::new(), seq, at, waits, children: Vec::new() };
        let transition = self.platform.state.park(self.lease, park).await.unwrap();
        let status = domain::TaskStatus::Waiting;
        self.publish(EventBody::TaskStatus { task: self.lease.task, status });
        self.platform.announcer().transition(&Namespace::default(), &transition).await;
    }

    async fn end(self, outcome: Outcome, steps: Vec<NewStep>, messages: Vec<NewThreadMessage>, told: Vec<Step>) {
        let usage = Usage::tokens(3, 4);
        let finish = Finish { steps, outcome, usage, messages, at: self.platform.clock.now() };
        let transition = self.platform.state.finish(self.lease, finish).await.unwrap();
        for step in told {
            self.publish(EventBody::TaskStep { task: self.lease.task, step: Arc::new(step) });
        }
        self.platform.announcer().transition(&Namespace::default(), &transition).await;
    }

    fn take(&mut self, body: StepBody) -> NewStep {
        let seq = self.next;
        self.next += 1;
        NewStep { seq, at: self.platform.clock.now(), body }
    }

    fn publish(&self, body: EventBody) {
        self.platform.bus.publish(Event { namespace: Namespace::default(), body });
    }
}
