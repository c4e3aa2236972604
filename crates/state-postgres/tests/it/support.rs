//! Short words for the tests.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use domain::{
    AgentName, Clock, ExecutionMode, FinishReason, Ids, Lease, ModelStep, Namespace, NewTask, StepBody, SystemClock,
    SystemIds, TaskId, TaskInput, Terms, Usage, WorkerId,
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use state::{Claim, Claimed, Finish, NewStep, Outcome, State, StateError};
use state_postgres::{PostgresOptions, PostgresState};

/// The longest wait for anything that must happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::default())
}

pub(crate) fn options(url: &str) -> PostgresOptions {
    PostgresOptions::from_url(url).expect("a valid URL")
}

pub(crate) fn open(url: &str) -> Arc<PostgresState> {
    let mut options = options(url);
    // The machine may be busy with other tests.
    options.acquire_timeout = DEADLINE;
    PostgresState::open(options, clock())
}

/// A fresh database in the shared server.
pub(crate) async fn database() -> String {
    testkit::servers::postgres().await.fresh_database().await
}

/// Runs statements on a connection of their own.
pub(crate) async fn admin(url: &str, sql: &str) {
    let mut conn = PgConnection::connect(url).await.expect("connected");
    conn.execute(AssertSqlSafe(sql)).await.expect("done");
    conn.close().await.expect("closed");
}

/// Tries until something succeeds.
pub(crate) async fn until<T, E: std::fmt::Debug, F: Future<Output = Result<T, E>>>(
    mut attempt: impl FnMut() -> F,
) -> T {
    let trying = async {
        loop {
            match attempt().await {
                Ok(done) => return done,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(DEADLINE, trying).await.expect("it succeeds before the deadline")
}

pub(crate) fn new_task() -> NewTask {
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
        created_at: SystemClock::default().now(),
        run_at: None,
        expires_at: None,
        deadline: None,
        thread: None,
        user: None,
        parent: None,
        depth: 0,
        metadata: BTreeMap::new(),
        trace: None,
        terms: Terms::default(),
    }
}

pub(crate) fn model(seq: u32, text: &str) -> NewStep {
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
    NewStep { seq, at: SystemClock::default().now(), body }
}

pub(crate) fn success(steps: Vec<NewStep>) -> Finish {
    Finish {
        steps,
        outcome: Outcome::Succeeded,
        usage: Usage::default(),
        messages: Vec::new(),
        at: SystemClock::default().now(),
    }
}

pub(crate) async fn try_claim(
    store: &PostgresState,
    task: TaskId,
    worker: WorkerId,
) -> Result<Option<Claimed>, StateError> {
    store.claim(Claim { task, worker, now: SystemClock::default().now(), thread_messages: 10 }).await
}

pub(crate) fn worker() -> WorkerId {
    WorkerId(SystemIds.uuid())
}

pub(crate) async fn submit(store: &PostgresState) -> TaskId {
    store.submit(new_task()).await.expect("submitted").task.id
}

/// A task that a worker holds.
pub(crate) async fn running(store: &PostgresState, worker: WorkerId) -> Lease {
    let task = submit(store).await;
    try_claim(store, task, worker).await.expect("answered").expect("claimed").lease()
}
