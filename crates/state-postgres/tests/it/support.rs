//! Short words for the tests.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::{
    AgentName, Clock, ExecutionMode, FinishReason, Ids, Lease, ModelStep, Namespace, NewTask, StepBody, SystemClock,
    SystemIds, TaskId, TaskInput, TaskStatus, Terms, Usage, WorkerId,
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use state::{Claim, Claimed, Finish, NewStep, Outcome, State, StateError};
use state_postgres::{PostgresOptions, PostgresState};
use tokio::task::JoinSet;

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

/// One task's life, each call repeated until it is confirmed or the lease is lost; none when its claim was.
async fn live(store: &PostgresState) -> Option<Lease> {
    let task = new_task();
    until(|| store.submit(task.clone())).await;
    let mut claimed = None;
    for _ in 0..3 {
        // A claim whose answer was lost may have been granted: then nobody gets it before it is reaped.
        claimed = until(|| try_claim(store, task.id, worker())).await;
        if claimed.is_some() {
            break;
        }
    }
    let lease = claimed?.lease();
    for seq in 1..=3 {
        let step = model(seq, "thinking");
        until(|| store.append(lease, vec![step.clone()])).await;
    }
    let finish = success(Vec::new());
    until(|| store.finish(lease, finish.clone())).await;
    Some(lease)
}

/// Eight workers bring task after task through their lives until some trouble is over, and all that was confirmed is there
/// in the end.
pub(crate) async fn lives_go_on(store: &Arc<PostgresState>, trouble: impl Future<Output = ()>) {
    let over = Arc::new(AtomicBool::new(false));
    let mut lives = JoinSet::new();
    for _ in 0..8 {
        let (store, over) = (Arc::clone(store), Arc::clone(&over));
        lives.spawn(async move {
            let mut lived = Vec::new();
            while lived.len() < 10 || !over.load(Ordering::Relaxed) {
                lived.push(live(&store).await);
            }
            lived
        });
    }
    trouble.await;
    over.store(true, Ordering::Relaxed);
    let lived: Vec<_> = lives.join_all().await.into_iter().flatten().collect();
    let ended: Vec<_> = lived.iter().flatten().collect();
    assert!(ended.len() * 10 > lived.len() * 6, "{} of {} lives went through", ended.len(), lived.len());
    let namespace = Namespace::default();
    for lease in ended {
        let task = until(|| store.task(&namespace, lease.task)).await.expect("kept");
        assert_eq!((task.status, task.epoch), (TaskStatus::Succeeded, lease.epoch));
        let steps = until(|| store.journal(&namespace, lease.task, 0, 10)).await;
        assert_eq!(steps.iter().map(|step| step.seq).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }
}
