//! Short words for the tests.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use domain::{
    AgentName, Clock, ExecutionMode, FinishReason, Ids, Lease, ManualClock, ModelStep, Namespace, NewTask, StepBody,
    SystemIds, TaskId, TaskInput, Timestamp, Usage, WorkerId,
};
use state::{Claim, Finish, NewStep, Outcome, State, StateError};
use state_sqlite::{SqliteOptions, SqliteState};

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_timestamp_micros(1_770_000_000_123_456).expect("a valid time")))
}

pub(crate) fn try_open(dir: &Path, clock: &Arc<ManualClock>) -> Result<Arc<SqliteState>, StateError> {
    SqliteState::open(SqliteOptions::new(dir), Arc::clone(clock) as Arc<dyn Clock>)
}

pub(crate) fn open(dir: &Path, clock: &Arc<ManualClock>) -> Arc<SqliteState> {
    try_open(dir, clock).expect("the store opens")
}

pub(crate) fn new_task(clock: &ManualClock) -> NewTask {
    NewTask {
        id: TaskId(SystemIds.uuid()),
        namespace: Namespace::default(),
        idempotency_key: None,
        digest: [7; 32],
        agent: AgentName::new("writer").expect("a valid name"),
        agent_version: 1,
        mode: ExecutionMode::Autonomous,
        input: TaskInput::new("say something".to_owned()),
        priority: 5,
        created_at: clock.now(),
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

pub(crate) fn model(seq: u32, text: &str, clock: &ManualClock) -> NewStep {
    let body = StepBody::Model(ModelStep {
        model: "scripted/test".to_owned(),
        text: text.to_owned(),
        tool_calls: Vec::new(),
        finish: FinishReason::Stop,
        usage: Usage::default(),
        structured: false,
        duration_ms: 1,
        reasoning: Vec::new(),
        tries: Vec::new(),
    });
    NewStep { seq, at: clock.now(), body }
}

pub(crate) async fn submit(store: &SqliteState, clock: &ManualClock) -> TaskId {
    store.submit(new_task(clock)).await.expect("submitted").task.id
}

pub(crate) async fn claim(store: &SqliteState, task: TaskId, clock: &ManualClock) -> Option<Lease> {
    let claim = Claim { task, worker: WorkerId(SystemIds.uuid()), now: clock.now(), thread_messages: 10 };
    store.claim(claim).await.expect("answered").map(|claimed| claimed.lease())
}

/// A task that a worker holds, and of which that is durable.
pub(crate) async fn running(store: &SqliteState, clock: &ManualClock) -> Lease {
    let task = submit(store, clock).await;
    let lease = claim(store, task, clock).await.expect("claimed");
    store.append(lease, vec![model(1, "thinking", clock)]).await.expect("appended");
    lease
}

pub(crate) fn success(clock: &ManualClock) -> Finish {
    Finish {
        steps: Vec::new(),
        outcome: Outcome::Succeeded,
        usage: Usage::default(),
        messages: Vec::new(),
        at: clock.now(),
    }
}
