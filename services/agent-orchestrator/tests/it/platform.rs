//! One orchestrator with everything that it needs.

use std::sync::Arc;
use std::time::Duration;

use agent::Announcer;
use agent_orchestrator::{Config, Deps};
use blob::Blobs;
use bus::InprocBus;
use client::Client;
use common::health::Probe;
use common::lifecycle::Lifecycle;
use domain::{AgentName, AgentSpec, Clock, HumanDuration, Namespace, SystemClock, SystemIds, TaskId};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};
use state::State;
use state::agents::Agents;
use state_sqlite::{SqliteOptions, SqliteState};
use tempfile::TempDir;
use wire::{SubmitTask, TaskView};

/// How long a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Platform {
    pub(crate) url: String,
    pub(crate) client: Client,
    pub(crate) http: reqwest::Client,
    pub(crate) state: Arc<dyn State>,
    pub(crate) bus: InprocBus,
    pub(crate) agents: Arc<Agents>,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) clock: Arc<dyn Clock>,
    lifecycle: Lifecycle,
    dir: TempDir,
}

impl Platform {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts with other settings; the background is quick.
    pub(crate) async fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let platform = Self::open(TempDir::new().unwrap(), configure).await;
        for name in ["writer", "reader"] {
            platform.publish(json!({ "name": name, "description": "Works with texts", "tools": ["wait"] })).await;
        }
        platform
    }

    async fn open(dir: TempDir, configure: impl FnOnce(&mut Config)) -> Self {
        let often = HumanDuration(Duration::from_millis(20));
        let mut config = Config {
            orchestrator_address: ([127, 0, 0, 1], 0).into(),
            orchestrator_sweep_interval: often,
            orchestrator_reap_interval: often,
            orchestrator_expiry_interval: often,
            // A lost event must not be healed before a test notices.
            orchestrator_stream_poll: HumanDuration::from_secs(60),
            ..Config::default()
        };
        configure(&mut config);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let state: Arc<dyn State> = SqliteState::open(SqliteOptions::new(dir.path()), Arc::clone(&clock)).unwrap();
        let agents = Arc::new(Agents::new(Arc::clone(&state), Arc::clone(&clock)));
        let bus = InprocBus::default();
        let blobs: Arc<dyn Blobs> = Arc::new(blob::Folder::new(dir.path().join("blobs")));
        let deps = Deps {
            state: Arc::clone(&state),
            agents: Arc::clone(&agents),
            queue: Arc::new(bus.clone()),
            events: Arc::new(bus.clone()),
            blobs: Arc::clone(&blobs),
            limits: Arc::default(),
            models: llm::Models::default(),
            servers: Arc::new(tools::servers::NoServers),
            clock: Arc::clone(&clock),
            ids: Arc::new(SystemIds),
            probes: vec![Probe::record("state", &state)],
        };
        let lifecycle = Lifecycle::new();
        let addresses = agent_orchestrator::start(config, deps, lifecycle.clone()).await.unwrap();
        let url = format!("http://{}", addresses.http);
        let client = Client::new(&url).unwrap();
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { url, client, http, state, bus, agents, blobs, clock, lifecycle, dir }
    }

    /// Stops in order and opens the same record again.
    pub(crate) async fn restart(self) -> Self {
        let dir = self.stop().await;
        Self::open(dir, |_| {}).await
    }

    /// Stops in order; a task that died or did not stop fails the test.
    pub(crate) async fn stop(self) -> TempDir {
        self.lifecycle.shutdown();
        let exit = self.lifecycle.wait(PATIENCE).await;
        assert_eq!(exit.code(), 0, "{exit:?}");
        self.state.close().await;
        self.dir
    }

    /// Where the blobs are.
    pub(crate) fn blob_folder(&self) -> std::path::PathBuf {
        self.dir.path().join("blobs")
    }

    pub(crate) async fn publish(&self, spec: Value) {
        let spec: AgentSpec = serde_json::from_value(spec).unwrap();
        self.agents.publish(&Namespace::default(), spec).await.unwrap();
    }

    pub(crate) fn announcer(&self) -> Announcer {
        Announcer { queue: Arc::new(self.bus.clone()), events: Arc::new(self.bus.clone()) }
    }

    pub(crate) async fn submit(&self) -> TaskId {
        self.client.submit(&request()).await.unwrap().task.id
    }

    pub(crate) async fn task(&self, id: TaskId) -> TaskView {
        self.client.task(id).await.unwrap()
    }

    /// Counts the tasks of the record, whoever made them.
    pub(crate) async fn count(&self) -> u64 {
        self.state.stats(None).await.unwrap().tasks.values().sum()
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.url))
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.url))
    }
}

pub(crate) fn request() -> SubmitTask {
    SubmitTask::new(writer(), "hello")
}

pub(crate) fn writer() -> AgentName {
    AgentName::new("writer").unwrap()
}

/// Sends, and reads status and body.
pub(crate) async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    let problem = response.headers().get("content-type").is_some_and(|kind| kind == "application/problem+json");
    assert_eq!(problem, !status.is_success(), "{status} must be a problem exactly when it is no success");
    (status, response.json().await.unwrap())
}

/// Waits until something holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}: not in time"));
}
