//! A whole pool against the embedded record and bus, and the program on real ones.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[cfg(feature = "program")]
#[path = "../../../support/backends.rs"]
mod backends;
#[cfg(feature = "program")]
#[path = "../../../support/process.rs"]
mod process;
#[cfg(feature = "program")]
mod program;

use std::sync::Arc;
use std::time::Duration;

use agent_pool::{Addresses, Config, Deps};
use bus::{InprocBus, WorkQueue};
use common::health::Probe;
use common::lifecycle::Lifecycle;
use domain::{
    AgentName, AgentSpec, Clock, ExecutionMode, Namespace, NewTask, ReadyTask, SystemClock, SystemIds, TaskId,
    TaskInput, TaskStatus,
};
use llm::scripted::{Dialogue, Scripted};
use llm::{Models, Provider};
use serde_json::json;
use state::agents::Agents;
use state::{State, TaskFilter};
use state_sqlite::{SqliteOptions, SqliteState};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A pool without servers that bring tools is prepared from the start.
fn prepared() -> CancellationToken {
    let prepared = CancellationToken::new();
    prepared.cancel();
    prepared
}

struct World {
    state: Arc<dyn State>,
    bus: Arc<InprocBus>,
    deps: Deps,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new(dialogue: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let state: Arc<dyn State> =
            SqliteState::open(SqliteOptions::new(dir.path()), Arc::clone(&clock)).expect("it opens");
        let agents = Arc::new(Agents::new(Arc::clone(&state), Arc::clone(&clock)));
        let bus = Arc::new(InprocBus::default());
        let scripted = Scripted::new();
        scripted.add("worker", Dialogue::parse(dialogue).expect("a dialogue"));
        let mut models = Models::default();
        models.add("scripted", Provider { chat: Arc::new(scripted), models: Vec::new(), note: String::new() });
        let spec: AgentSpec =
            serde_json::from_value(json!({ "name": "worker", "model": "scripted/worker", "tools": ["echo"] }))
                .expect("an agent");
        agents.publish(&Namespace::default(), spec).await.expect("published");
        let deps = Deps {
            state: Arc::clone(&state),
            agents,
            queue: Arc::clone(&bus) as _,
            events: Arc::clone(&bus) as _,
            requests: Arc::clone(&bus) as _,
            blobs: Arc::new(blob::Folder::new(dir.path().join("blobs"))),
            limits: Arc::default(),
            models,
            toolkit: tools::builtin(tools::BuiltinOptions::default()),
            servers: Arc::new(tools::servers::NoServers),
            prepared: prepared(),
            clock,
            ids: Arc::new(SystemIds),
            probes: vec![Probe::record("state", &state)],
        };
        Self { state, bus, deps, _dir: dir }
    }

    async fn start(&self, lifecycle: &Lifecycle, drain: &str) -> Addresses {
        let config = Config {
            agent_pool_address: ([127, 0, 0, 1], 0).into(),
            agent_pool_capacity: 16,
            agent_drain_timeout: drain.parse().expect("a duration"),
            ..Config::default()
        };
        agent_pool::start(config, self.deps.clone(), lifecycle).await.expect("it starts")
    }

    async fn submit(&self, tasks: u32) {
        for _ in 0..tasks {
            let id = TaskId(self.deps.ids.uuid());
            let task = NewTask {
                id,
                namespace: Namespace::default(),
                idempotency_key: None,
                digest: [0; 32],
                agent: AgentName::new("worker").expect("a name"),
                agent_version: 1,
                mode: ExecutionMode::Autonomous,
                input: TaskInput::new("go".to_owned()),
                priority: 5,
                created_at: self.deps.clock.now(),
                run_at: None,
                expires_at: None,
                deadline: None,
                thread: None,
                user: None,
                parent: None,
                depth: 0,
                metadata: std::collections::BTreeMap::new(),
                trace: None,
                terms: domain::Terms::default(),
            };
            self.state.submit(task).await.expect("recorded");
            let ready = ReadyTask { task: id, mode: ExecutionMode::Autonomous, priority: 5 };
            // A hint may come twice.
            self.bus.announce(&[ready]).await.expect("announced");
            self.bus.announce(&[ready]).await.expect("announced");
        }
    }

    async fn count(&self, status: TaskStatus) -> usize {
        let filter = TaskFilter { statuses: vec![status], ..TaskFilter::default() };
        self.state.tasks(&Namespace::default(), filter, None, 1_000).await.expect("a list").items.len()
    }

    async fn wait_for(&self, status: TaskStatus, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.count(status).await != count {
            assert!(Instant::now() < deadline, "{} tasks are {status}", self.count(status).await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_runs_what_is_announced_once_whatever_is_announced_twice() {
    let world = World::new("turns: [{tool_calls: [{name: echo, arguments: {text: a}}]}, {text: done}]").await;
    let lifecycle = Lifecycle::new();
    let addresses = world.start(&lifecycle, "5s").await;
    world.submit(100).await;
    world.wait_for(TaskStatus::Succeeded, 100).await;
    common::tls::install();
    let status: serde_json::Value =
        reqwest::get(format!("http://{}/status", addresses.http)).await.expect("an answer").json().await.expect("JSON");
    assert_eq!(status["runs"]["succeeded"], 100);
    assert_eq!(status["runs"]["running"], 0);
    assert_eq!(status["mode"], "autonomous");
    lifecycle.shutdown();
    assert_eq!(lifecycle.wait(Duration::from_secs(10)).await.code(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_stops_gives_back_what_it_cannot_finish() {
    let world = World::new("turns: [{hang: true}]").await;
    let lifecycle = Lifecycle::new();
    world.start(&lifecycle, "100ms").await;
    world.submit(5).await;
    world.wait_for(TaskStatus::Running, 5).await;
    lifecycle.shutdown();
    assert_eq!(lifecycle.wait(Duration::from_secs(10)).await.code(), 0);
    assert_eq!(world.count(TaskStatus::Queued).await, 5, "given back, not left to run out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_task_is_stopped_even_if_no_message_says_so() {
    let world = World::new("turns: [{hang: true}]").await;
    let lifecycle = Lifecycle::new();
    world.start(&lifecycle, "5s").await;
    world.submit(1).await;
    world.wait_for(TaskStatus::Running, 1).await;
    let filter = TaskFilter::default();
    let tasks = world.state.tasks(&Namespace::default(), filter, None, 10).await.expect("a list").items;
    // The renewal finds the request in the record.
    world.state.cancel(&Namespace::default(), tasks[0].id).await.expect("asked");
    world.wait_for(TaskStatus::Cancelled, 1).await;
    lifecycle.shutdown();
    assert_eq!(lifecycle.wait(Duration::from_secs(10)).await.code(), 0);
}
