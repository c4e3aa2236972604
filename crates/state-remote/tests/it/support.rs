//! Stores, servers and clients of tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bus::{InprocBus, Requests};
use domain::{
    AgentName, Clock, ExecutionMode, FinishReason, Ids, Lease, ManualClock, ModelStep, Namespace, NewTask, StepBody,
    SystemIds, TaskId, TaskInput, TaskStatus, Terms, Timestamp, Usage, WorkerId,
};
use state::contract::World;
use state::{Claim, NewStep, State};
use state_remote::{ClientOptions, RemoteState, ServerOptions, Serving, serve};
use state_sqlite::{SqliteOptions, SqliteState};
use tempfile::TempDir;

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A store with one server before it.
pub(crate) struct Platform {
    pub(crate) store: Arc<dyn State>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) requests: Arc<dyn Requests>,
    pub(crate) serving: Option<Serving>,
    _dir: TempDir,
}

impl Platform {
    pub(crate) async fn start() -> Self {
        Self::start_on(Arc::new(InprocBus::default()), ServerOptions::default()).await
    }

    pub(crate) async fn start_on(requests: Arc<dyn Requests>, options: ServerOptions) -> Self {
        let mut platform = Self::unserved(requests);
        platform.serve(options).await;
        platform
    }

    /// A store that nobody can reach yet.
    pub(crate) fn unserved(requests: Arc<dyn Requests>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = World::clock();
        let store = SqliteState::open(SqliteOptions::new(dir.path()), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        Self { store, clock, requests, serving: None, _dir: dir }
    }

    pub(crate) async fn serve(&mut self, options: ServerOptions) {
        self.serving = Some(serve(&*self.requests, Arc::clone(&self.store), options).await.unwrap());
    }

    pub(crate) fn client(&self) -> Arc<RemoteState> {
        client(Arc::clone(&self.requests), ClientOptions::default())
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn new_task(&self) -> NewTask {
        new_task(TaskId(SystemIds.uuid()), self.now())
    }

    pub(crate) fn claim(&self, task: TaskId) -> Claim {
        Claim { task, worker: WorkerId(SystemIds.uuid()), now: self.now(), thread_messages: 100 }
    }

    /// A task that a worker holds.
    pub(crate) async fn running(&self) -> Lease {
        let task = self.store.submit(self.new_task()).await.unwrap().task.id;
        self.store.claim(self.claim(task)).await.unwrap().unwrap().lease()
    }

    pub(crate) async fn status(&self, task: TaskId) -> TaskStatus {
        self.store.task(&Namespace::default(), task).await.unwrap().unwrap().status
    }
}

pub(crate) fn client(requests: Arc<dyn Requests>, options: ClientOptions) -> Arc<RemoteState> {
    Arc::new(RemoteState::new(requests, Arc::new(SystemIds), options))
}

/// Options of a client that gives up after `timeout` and tries nothing again.
pub(crate) fn impatient(timeout: Duration) -> ClientOptions {
    ClientOptions {
        read_timeout: timeout,
        write_timeout: timeout,
        patience: Duration::ZERO,
        ..ClientOptions::default()
    }
}

pub(crate) fn new_task(id: TaskId, now: Timestamp) -> NewTask {
    NewTask {
        id,
        namespace: Namespace::default(),
        idempotency_key: None,
        digest: [7; 32],
        agent: AgentName::new("writer").unwrap(),
        agent_version: 3,
        mode: ExecutionMode::Autonomous,
        input: TaskInput::new("say something"),
        priority: 5,
        created_at: now,
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

pub(crate) fn model_step(seq: u32, at: Timestamp, text: impl Into<String>) -> NewStep {
    let body = StepBody::Model(ModelStep {
        model: "scripted/test".to_owned(),
        text: text.into(),
        tool_calls: Vec::new(),
        finish: FinishReason::Stop,
        usage: Usage::tokens(10, 20),
        structured: false,
        duration_ms: 12,
        reasoning: Vec::new(),
        tries: Vec::new(),
    });
    NewStep { seq, at, body }
}

/// Waits until `holds`.
pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what} did not happen in time"));
}
