//! A running platform and a client of it, which remembers every answer: at the end none of them, no log line and no file
//! may hold the secret that the platform was given.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::platform::{Home, Platform};

/// Long enough for a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
/// The key of a provider: it must be seen by nobody but the provider.
pub(crate) const CANARY: &str = "sk-canary-3b1d8c77e0f24a55";
const ENDS: [&str; 3] = ["succeeded", "failed", "cancelled"];

/// What a house is made of.
#[derive(Default)]
pub(crate) struct Plan<'a> {
    /// Files of agents, without `.yml`.
    pub(crate) agents: &'a [(&'a str, &'a str)],
    /// Dialogues, without `.yml`.
    pub(crate) dialogues: &'a [(&'a str, &'a str)],
    /// What tools may call in this machine; `SINK` in the files.
    pub(crate) sink: Option<String>,
    /// The base URL of the models `openai/…`.
    pub(crate) openai: Option<String>,
    /// Further settings.
    pub(crate) settings: &'a [(&'a str, &'a str)],
}

/// A platform in a folder of its own.
pub(crate) struct House {
    home: Home,
    platform: Option<Platform>,
    settings: Vec<(String, String)>,
    urls: BTreeMap<String, String>,
    pid: u32,
    logs: String,
    answers: Mutex<String>,
    pub(crate) http: reqwest::Client,
}

impl House {
    pub(crate) async fn new(plan: Plan<'_>) -> Self {
        let named = |files: &[(&str, &str)]| -> Vec<(String, String)> {
            files.iter().map(|(name, text)| (format!("{name}.yml"), (*text).to_owned())).collect()
        };
        let (agents, dialogues) = (named(plan.agents), named(plan.dialogues));
        let sink = plan.sink.unwrap_or_else(|| "127.0.0.1:9".to_owned());
        let home = Home::with(&borrowed(&agents), &borrowed(&dialogues), &sink);
        let openai = plan.openai.unwrap_or_else(|| "http://127.0.0.1:9/v1".to_owned());
        // A lease of one second is for tests that kill; under load a debug build may need longer between renewals.
        let mut settings = BTreeMap::from([
            ("OPENAI_API_KEY", CANARY),
            ("OPENAI_BASE_URL", openai.as_str()),
            ("AGENT_LEASE", "4s"),
            ("AGENT_RENEW_INTERVAL", "1s"),
        ]);
        settings.extend(plan.settings.iter().copied());
        let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        common::tls::install();
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client");
        let mut house = Self {
            home,
            platform: None,
            settings,
            urls: BTreeMap::new(),
            pid: 0,
            logs: String::new(),
            answers: Mutex::default(),
            http,
        };
        house.start().await;
        let expected = agents.len();
        house
            .until("config-service", "/configs", |_, list| list.as_array().is_some_and(|list| list.len() == expected))
            .await;
        house
    }

    /// Starts the platform in its folder.
    pub(crate) async fn start(&mut self) {
        let platform = self.home.start_with(&borrowed(&self.settings)).await.expect("the platform starts");
        let told = std::fs::read(self.data().join("agentrunner.json")).expect("it tells where it is");
        let told: Value = serde_json::from_slice(&told).expect("JSON");
        self.pid = told["pid"].as_u64().expect("its process") as u32;
        self.urls = serde_json::from_value(told["urls"].clone()).expect("the services' addresses");
        self.platform = Some(platform);
    }

    /// Kills it as a power cut would.
    pub(crate) async fn kill(&mut self) {
        let mut platform = self.platform.take().expect("it runs");
        let pid = self.pid.to_string();
        assert!(std::process::Command::new("kill").args(["-KILL", &pid]).status().expect("kill").success());
        platform.wait_exit().await;
        self.logs += &platform.log();
    }

    /// Stops it in order, and looks for the secret in all that it left behind.
    pub(crate) async fn stop(mut self) {
        let platform = self.platform.as_ref().expect("it runs");
        self.logs += &platform.log();
        self.platform.take().expect("it runs").stop().await;
        assert!(!self.logs.contains("panicked"), "{}", self.logs);
        assert!(!self.logs.contains(CANARY), "the log holds the key: {}", self.logs);
        assert!(!self.answers.lock().expect("answers").contains(CANARY), "an answer holds the key");
        for file in files_below(&self.data()) {
            let bytes = std::fs::read(&file).expect("a file");
            let held = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
            assert!(!held, "{} holds the key", file.display());
        }
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        format!("{}{}", self.logs, self.platform.as_ref().map(Platform::log).unwrap_or_default())
    }

    /// The services by name.
    pub(crate) fn services(&self) -> impl Iterator<Item = (&str, &str)> {
        self.urls.iter().map(|(name, url)| (name.as_str(), url.as_str()))
    }

    pub(crate) fn url(&self, service: &str, path: &str) -> String {
        format!("{}{path}", self.urls[service])
    }

    pub(crate) fn tasks_url(&self, path: &str) -> String {
        self.url("agent-orchestrator", path)
    }

    /// The folder of agents.
    pub(crate) fn agents(&self) -> PathBuf {
        self.home.dir.path().join("agents")
    }

    pub(crate) fn write_agent(&self, name: &str, text: &str) {
        std::fs::write(self.agents().join(format!("{name}.yml")), text).expect("an agent's file");
    }

    pub(crate) fn write_dialogue(&self, name: &str, text: &str) {
        std::fs::write(self.home.dir.path().join("scripts").join(format!("{name}.yml")), text).expect("a dialogue");
    }

    fn data(&self) -> PathBuf {
        self.home.dir.path().join("data")
    }

    /// Sends a request and reads its answer as JSON.
    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("a body");
        let value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let mut answers = self.answers.lock().expect("answers");
        // What was said is remembered, but not a megabyte of the same letter.
        answers.extend(text.chars().take(100_000));
        answers.push('\n');
        (status, value)
    }

    pub(crate) async fn get(&self, service: &str, path: &str) -> (u16, Value) {
        self.send(self.http.get(self.url(service, path))).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(self.http.post(self.tasks_url(path)).json(body)).await
    }

    /// Asks until the answer is as wanted.
    pub(crate) async fn until(&self, service: &str, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, value) = self.get(service, path).await;
            if wanted(status, &value) {
                return value;
            }
            assert!(Instant::now() < deadline, "{path} stays {status} {value}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Submits a task and returns its id.
    pub(crate) async fn submit(&self, body: &Value) -> String {
        let (status, task) = self.post("/tasks", body).await;
        assert_eq!(status, 202, "{task}");
        task["id"].as_str().expect("an id").to_owned()
    }

    pub(crate) async fn ask(&self, agent: &str, prompt: &str) -> String {
        self.submit(&json!({ "agent": agent, "prompt": prompt })).await
    }

    pub(crate) async fn task(&self, id: &str) -> Value {
        self.get("agent-orchestrator", &format!("/tasks/{id}")).await.1
    }

    /// Waits until a task has this status.
    pub(crate) async fn until_status(&self, id: &str, wanted: &str) -> Value {
        self.until("agent-orchestrator", &format!("/tasks/{id}"), |_, task| task["status"] == wanted).await
    }

    /// Waits until a task has ended.
    pub(crate) async fn ended(&self, id: &str) -> Value {
        let ended = |_: u16, task: &Value| ENDS.iter().any(|end| task["status"] == *end);
        self.until("agent-orchestrator", &format!("/tasks/{id}?wait=10s"), ended).await
    }

    /// Submits a task and waits until it has ended.
    pub(crate) async fn run(&self, agent: &str, prompt: &str) -> Value {
        let id = self.ask(agent, prompt).await;
        self.ended(&id).await
    }

    /// A task's whole journal.
    pub(crate) async fn journal(&self, id: &str) -> Vec<Value> {
        let (status, page) = self.get("agent-orchestrator", &format!("/tasks/{id}/journal?limit=1000")).await;
        assert_eq!(status, 200, "{page}");
        page["items"].as_array().expect("items").clone()
    }

    /// How many steps of a type a task's journal has.
    pub(crate) async fn steps(&self, id: &str, kind: &str) -> usize {
        self.journal(id).await.iter().filter(|step| step["type"] == kind).count()
    }

    /// A whole list, page by page.
    pub(crate) async fn list(&self, path: &str, limit: u32) -> Vec<Value> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let first = format!("{path}{separator}limit={limit}");
        let (mut all, mut next) = (Vec::new(), Some(first.clone()));
        while let Some(page) = next {
            let (status, page) = self.get("agent-orchestrator", &page).await;
            assert_eq!(status, 200, "{page}");
            all.extend(page["items"].as_array().expect("items").clone());
            next = page["next_cursor"].as_str().map(|cursor| format!("{first}&cursor={cursor}"));
        }
        all
    }

    /// How many tasks have this status.
    pub(crate) async fn count(&self, status: &str) -> u64 {
        let (_, stats) = self.get("agent-orchestrator", "/metrics/pool-stats").await;
        stats["tasks"][status].as_u64().unwrap_or(0)
    }

    /// Everything that the record counts, but for its size.
    pub(crate) async fn stored(&self) -> Value {
        let (status, mut stats) = self.get("state-manager", "/stats").await;
        assert_eq!(status, 200, "{stats}");
        stats.as_object_mut().expect("counts").remove("stored_bytes");
        stats
    }

    /// Bytes of memory, as `/proc/PID/status` names them.
    pub(crate) fn memory(&self, line: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("its status");
        let value = text.lines().find_map(|found| found.strip_prefix(line)).expect("the line");
        value.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Begins to measure the highest use of memory anew.
    pub(crate) fn reset_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid), "5").expect("the peak is reset");
    }
}

fn borrowed(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(left, right)| (left.as_str(), right.as_str())).collect()
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
