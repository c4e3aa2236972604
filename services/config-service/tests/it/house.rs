//! A whole service on a free port, with its folder and its record in a temporary place.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bus::{Events, InprocBus, Received};
use common::health::Probe;
use common::lifecycle::Lifecycle;
use config_service::{Config, Deps};
use domain::{AgentName, Clock, EventBody, Namespace, SystemClock};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::Value;
use state::State;
use state::agents::{AgentVersion, Agents};
use state_sqlite::{SqliteOptions, SqliteState};
use tempfile::TempDir;
use tokio::time::Instant;

/// How long something may take that is promised within two seconds, on a machine that does other things, too.
const DEADLINE: Duration = Duration::from_secs(5);

pub(crate) struct House {
    pub(crate) agents: Arc<Agents>,
    pub(crate) events: Arc<dyn Events>,
    state: Arc<SqliteState>,
    lifecycle: Lifecycle,
    base: String,
    http: reqwest::Client,
    place: TempDir,
    deps: Deps,
    copies: Vec<Lifecycle>,
}

impl House {
    /// Starts with these files.
    pub(crate) async fn with(files: &[(&str, &str)]) -> Self {
        let place = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(place.path().join("agents")).expect("a folder");
        for (name, text) in files {
            std::fs::write(place.path().join("agents").join(name), text).expect("a file");
        }
        Self::at(place).await
    }

    /// Starts in a place that was prepared, or left by another one.
    pub(crate) async fn at(place: TempDir) -> Self {
        Self::over(place, true).await
    }

    /// Starts over a record that answers, or over one that does not.
    pub(crate) async fn over(place: TempDir, answers: bool) -> Self {
        common::tls::install();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let options = SqliteOptions::new(place.path().join("data"));
        let state = SqliteState::open(options, Arc::clone(&clock)).expect("a record");
        let record: Arc<dyn State> = state.clone();
        if !answers {
            state.close().await;
        }
        let agents = Arc::new(Agents::new(Arc::clone(&record), Arc::clone(&clock)));
        let events: Arc<dyn Events> = Arc::new(InprocBus::default());
        let deps = Deps {
            probes: vec![Probe::record("state", &record)],
            state: record,
            agents: Arc::clone(&agents),
            events: Arc::clone(&events),
            servers: Arc::new([]),
            clock,
        };
        let config = Config {
            config_service_address: ([127, 0, 0, 1], 0).into(),
            agent_config_dir: place.path().join("agents"),
            ..Config::default()
        };
        let lifecycle = Lifecycle::new();
        let addresses = config_service::start(config, deps.clone(), &lifecycle).await.expect("the service starts");
        let base = format!("http://{}", addresses.http);
        Self { agents, events, state, lifecycle, base, http: reqwest::Client::new(), place, deps, copies: Vec::new() }
    }

    /// Starts another copy of the service over the same folder and record.
    pub(crate) async fn another_copy(&mut self) {
        let config = Config {
            config_service_address: ([127, 0, 0, 1], 0).into(),
            agent_config_dir: self.folder(),
            ..Config::default()
        };
        let agents = Arc::new(Agents::new(Arc::clone(&self.deps.state), Arc::clone(&self.deps.clock)));
        let lifecycle = Lifecycle::new();
        let deps = Deps { agents, ..self.deps.clone() };
        config_service::start(config, deps, &lifecycle).await.expect("the copy starts");
        self.copies.push(lifecycle);
    }

    /// What the active version of an agent says of its steps, as the record has it now.
    pub(crate) async fn steps(&self, name: &str) -> Option<u32> {
        let name = AgentName::new(name).expect("a name");
        let active = self.agents.active_now(&Namespace::default(), &name).await.expect("the record answers");
        active.map(|version| version.spec.limits.max_steps)
    }

    /// The same of all versions that there ever were, in their order.
    pub(crate) async fn all_steps(&self, name: &str) -> Vec<u32> {
        let name = AgentName::new(name).expect("a name");
        let mut steps = Vec::new();
        for number in 1.. {
            let version = self.agents.version(&Namespace::default(), &name, number).await.expect("the record answers");
            let Some(version) = version else { break };
            steps.push(version.spec.limits.max_steps);
        }
        steps
    }

    /// Stops; what it leaves can be started again.
    pub(crate) async fn stop(self) -> TempDir {
        for copy in &self.copies {
            copy.shutdown();
            let exit = copy.wait(Duration::from_secs(10)).await;
            assert_eq!(exit.code(), 0, "{exit:?}");
        }
        self.lifecycle.shutdown();
        let exit = self.lifecycle.wait(Duration::from_secs(10)).await;
        assert_eq!(exit.code(), 0, "{exit:?}");
        self.state.close().await;
        self.place
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.place.path().join("agents")
    }

    pub(crate) fn place(&self) -> &Path {
        self.place.path()
    }

    pub(crate) fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.folder().join(file), text).expect("a file");
    }

    pub(crate) fn remove(&self, file: &str) {
        std::fs::remove_file(self.folder().join(file)).expect("a file");
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.http.get(self.url(path)).send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.json().await.expect("JSON"))
    }

    pub(crate) async fn post(&self, path: &str, media: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let request = self.http.post(self.url(path)).header("content-type", media).body(body);
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.json().await.expect("JSON"))
    }

    /// Waits until `path` answers with what `wanted` wants.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
        let end = Instant::now() + DEADLINE;
        loop {
            let (status, body) = self.get(path).await;
            if wanted(status, &body) {
                return body;
            }
            assert!(Instant::now() < end, "{path} still answers {status}: {body:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until an agent says this and its file is right.
    pub(crate) async fn until_says(&self, agent: &str, description: &str) -> Value {
        let says =
            |status: u16, body: &Value| status == 200 && body["description"] == description && body["status"] == "ok";
        self.until(&format!("/configs/{agent}"), says).await
    }

    /// Waits until some error is listed whose text holds `part`.
    pub(crate) async fn until_error(&self, part: &str) -> Value {
        self.until("/configs/errors", |_, body| body.to_string().contains(part)).await
    }

    /// Waits until no error is listed.
    pub(crate) async fn until_all_well(&self) {
        self.until("/configs/errors", |_, body| body.as_array().is_some_and(Vec::is_empty)).await;
    }

    /// The version that new tasks get, as the record says.
    pub(crate) async fn active(&self, agent: &str) -> Option<Arc<AgentVersion>> {
        let name = AgentName::new(agent).expect("a name");
        self.agents.active(&Namespace::default(), &name).await.expect("the record answers")
    }

    pub(crate) async fn subscribe(&self) -> BoxStream<'static, Received> {
        self.events.subscribe().await.expect("the bus answers")
    }
}

/// Waits for the next new version that is told of.
pub(crate) async fn next_update(events: &mut BoxStream<'static, Received>) -> (String, u32) {
    let update = async {
        loop {
            match events.next().await {
                Some(Received::Event(event)) => {
                    if let EventBody::AgentUpdated { agent, version } = &event.body {
                        return (agent.to_string(), *version);
                    }
                }
                Some(Received::Missed) => {}
                None => panic!("the bus was closed"),
            }
        }
    };
    tokio::time::timeout(DEADLINE, update).await.expect("an event in time")
}

pub(crate) fn agent(name: &str, description: &str) -> String {
    format!("name: {name}\ndescription: {description}\n")
}
