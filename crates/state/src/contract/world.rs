//! What the cases act with: a store, a clock that stands still, and short words for the usual calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::{
    AgentName, Clock, ExecutionMode, Failure, FailureKind, FinishReason, Ids, Lease, ManualClock, ModelStep, Namespace,
    NewTask, ParentRef, Step, StepBody, SystemIds, Task, TaskId, TaskInput, TaskStatus, ThreadId, Timestamp, Usage,
    Wait, WaitFor, WorkerId,
};
use serde_json::Value;

use crate::{Claim, Claimed, Finish, NewStep, NewThreadMessage, Outcome, Park, Signal, State, StateError, Transition};

/// The largest page that cases ask for.
pub(super) const MANY: u32 = 1_000;

/// A fresh store and all that a case needs with it.
pub struct World {
    /// The store under test; empty.
    pub state: Arc<dyn State>,
    /// The clock that the store was opened with.
    pub clock: Arc<ManualClock>,
    /// The namespace that cases use unless they need two.
    pub namespace: Namespace,
    worker: WorkerId,
}

impl World {
    /// Wraps an empty store and the clock that it was opened with.
    pub fn new(state: Arc<dyn State>, clock: Arc<ManualClock>) -> Self {
        Self { state, clock, namespace: Namespace::default(), worker: WorkerId(SystemIds.uuid()) }
    }

    /// A clock for a store: some moment, with microseconds.
    pub fn clock() -> Arc<ManualClock> {
        let start = Timestamp::from_timestamp_micros(1_770_000_000_123_456).expect("a valid time");
        Arc::new(ManualClock::at(start))
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn after(&self, seconds: u64) -> Timestamp {
        self.now() + Duration::from_secs(seconds)
    }

    pub(super) fn new_task(&self) -> NewTask {
        NewTask {
            id: TaskId(SystemIds.uuid()),
            namespace: self.namespace.clone(),
            idempotency_key: None,
            digest: [7; 32],
            agent: agent("writer"),
            agent_version: 3,
            mode: ExecutionMode::Autonomous,
            input: TaskInput::new("say something".to_owned()),
            priority: 5,
            created_at: self.now(),
            run_at: None,
            expires_at: None,
            deadline: None,
            thread: None,
            user: None,
            parent: None,
            depth: 0,
            metadata: BTreeMap::new(),
            trace: None,
            terms: domain::Terms::default(),
        }
    }

    pub(super) fn new_child(&self, parent: TaskId, call_id: &str) -> NewTask {
        NewTask {
            parent: Some(ParentRef { task: parent, call_id: call_id.to_owned() }),
            depth: 1,
            agent: agent("helper"),
            ..self.new_task()
        }
    }

    pub(super) async fn submit(&self, task: NewTask) -> Task {
        let submitted = self.state.submit(task).await.expect("submitted");
        assert!(submitted.created);
        submitted.task
    }

    pub(super) async fn submitted(&self) -> TaskId {
        self.submit(self.new_task()).await.id
    }

    pub(super) async fn submitted_in(&self, thread: ThreadId) -> TaskId {
        self.submit(NewTask { thread: Some(thread), ..self.new_task() }).await.id
    }

    pub(super) fn thread() -> ThreadId {
        ThreadId(SystemIds.uuid())
    }

    pub(super) fn worker(&self) -> WorkerId {
        self.worker
    }

    pub(super) async fn try_claim(&self, task: TaskId) -> Option<Claimed> {
        let claim = Claim { task, worker: self.worker, now: self.now(), thread_messages: 100 };
        self.state.claim(claim).await.expect("a claim is answered")
    }

    pub(super) async fn claimed(&self, task: TaskId) -> Claimed {
        self.try_claim(task).await.expect("claimed")
    }

    pub(super) async fn lease(&self, task: TaskId) -> Lease {
        self.claimed(task).await.lease()
    }

    /// A task that a worker holds.
    pub(super) async fn running(&self) -> Lease {
        let task = self.submitted().await;
        self.lease(task).await
    }

    pub(super) fn model(&self, seq: u32, text: &str) -> NewStep {
        let body = StepBody::Model(ModelStep {
            model: "scripted/test".to_owned(),
            text: text.to_owned(),
            tool_calls: Vec::new(),
            finish: FinishReason::Stop,
            usage: usage(10),
            structured: false,
            duration_ms: 12,
            reasoning: Vec::new(),
            tries: Vec::new(),
        });
        NewStep { seq, at: self.now(), body }
    }

    pub(super) fn finish(&self, steps: Vec<NewStep>, outcome: Outcome) -> Finish {
        Finish { steps, outcome, usage: usage(20), messages: Vec::new(), at: self.now() }
    }

    pub(super) async fn succeed(&self, lease: Lease, seq: u32, text: &str) -> Transition {
        let finish = self.finish(vec![self.model(seq, text)], Outcome::Succeeded);
        self.state.finish(lease, finish).await.expect("finished")
    }

    pub(super) async fn say_and_succeed(&self, lease: Lease, seq: u32, texts: [&str; 2]) -> Transition {
        let mut finish = self.finish(vec![self.model(seq, texts[1])], Outcome::Succeeded);
        let message = |role, text: &str| NewThreadMessage { role, text: text.to_owned() };
        finish.messages = vec![message("user", texts[0]), message("assistant", texts[1])];
        self.state.finish(lease, finish).await.expect("finished")
    }

    pub(super) async fn fail(&self, lease: Lease) -> Transition {
        let finish = self.finish(Vec::new(), Outcome::Failed(failure()));
        self.state.finish(lease, finish).await.expect("finished")
    }

    pub(super) fn park(&self, seq: u32, waits: Vec<Wait>, children: Vec<NewTask>) -> Park {
        Park { steps: Vec::new(), seq, at: self.now(), waits, children }
    }

    /// A task that waits for these; its journal is the input and `Parked`.
    pub(super) async fn waiting(&self, waits: Vec<Wait>) -> TaskId {
        let lease = self.running().await;
        let transition = self.state.park(lease, self.park(1, waits, Vec::new())).await.expect("parked");
        assert_eq!(transition, Transition::default());
        lease.task
    }

    /// A parent that waits for one new sub-task.
    pub(super) async fn family(&self) -> (TaskId, TaskId) {
        let lease = self.running().await;
        let child = self.new_child(lease.task, "call-1");
        let child_id = child.id;
        let park = self.park(1, vec![wait_child("call-1", child_id)], vec![child]);
        let transition = self.state.park(lease, park).await.expect("parked");
        assert_eq!(ready(&transition), [child_id]);
        (lease.task, child_id)
    }

    pub(super) fn signal(&self, name: &str, value: Value) -> Signal {
        Signal { name: name.to_owned(), value, from: Some("ann".to_owned()), key: None, at: self.now() }
    }

    pub(super) async fn task(&self, task: TaskId) -> Task {
        self.state.task(&self.namespace, task).await.expect("read").expect("the task exists")
    }

    /// A task's answer, which every way of asking for it shows.
    pub(super) async fn answer(&self, task: TaskId) -> Option<serde_json::Value> {
        let answer = self.state.answer(&self.namespace, task).await.expect("read");
        let found = self.state.task_with_answer(&self.namespace, task).await.expect("read");
        assert_eq!(found, Some((self.task(task).await, answer.clone())));
        answer
    }

    pub(super) async fn status(&self, task: TaskId) -> TaskStatus {
        self.task(task).await.status
    }

    pub(super) async fn journal(&self, task: TaskId) -> Vec<Step> {
        self.state.journal(&self.namespace, task, 0, MANY).await.expect("read")
    }

    /// The kinds of a journal's steps, after a check that their numbers have no gap.
    pub(super) async fn kinds(&self, task: TaskId) -> Vec<&'static str> {
        let journal = self.journal(task).await;
        for (seq, step) in (0..).zip(&journal) {
            assert_eq!(step.seq, seq, "the journal has a gap");
        }
        journal.iter().map(|step| step.body.kind()).collect()
    }

    /// The tasks that `due` hands out now, nothing having been announced for a minute.
    pub(super) async fn due(&self) -> Vec<TaskId> {
        let due = self.state.due(self.now(), Duration::from_mins(1), MANY).await.expect("due");
        ready(&due.transition)
    }
}

pub(super) fn agent(name: &str) -> AgentName {
    AgentName::new(name).expect("a valid name")
}

pub(super) fn failure() -> Failure {
    Failure::new(FailureKind::ModelRefused, "the provider refused the request")
}

pub(super) fn usage(tokens: u64) -> Usage {
    Usage::tokens(tokens, 2 * tokens)
}

pub(super) fn wait(call_id: &str, on: WaitFor) -> Wait {
    Wait { call_id: call_id.to_owned(), on, expires_at: None, default: None }
}

pub(super) fn wait_child(call_id: &str, task: TaskId) -> Wait {
    wait(call_id, WaitFor::Child { task, agent: agent("helper") })
}

pub(super) fn wait_signal(call_id: &str, name: &str) -> Wait {
    let on = WaitFor::Signal { name: name.to_owned(), question: "may I?".to_owned(), options: Vec::new() };
    wait(call_id, on)
}

pub(super) fn wait_timer(call_id: &str, at: Timestamp) -> Wait {
    wait(call_id, WaitFor::Timer { at })
}

pub(super) fn ready(transition: &Transition) -> Vec<TaskId> {
    transition.ready.iter().map(|ready| ready.task).collect()
}

pub(super) fn assert_lost<T: std::fmt::Debug>(result: Result<T, StateError>, lease: Lease) {
    match result {
        Err(StateError::LeaseLost { task, epoch }) if task == lease.task && epoch == lease.epoch => {}
        other => panic!("the lease {lease:?} should be lost, got {other:?}"),
    }
}
