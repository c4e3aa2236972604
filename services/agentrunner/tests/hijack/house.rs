//! A platform with agents whose model obeys whatever it reads, and somebody else's work beside them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::library::{Library, Trap};
use crate::platform::{Home, Platform};

const PATIENCE: Duration = Duration::from_secs(40);

/// A secret of the operator, in the environment and in a file.
pub(crate) const SECRET: &str = "canary-7f3a91c2-secret";

const AGENTS: &[(&str, &str)] = &[
    (
        "reader.yml",
        "name: reader\nmodel: scripted/victim\ntools:\n  - {name: http_request, allow: [\"SINK\"], effect: none}\n  - now\n  - echo\n  - remember\n  - recall\n  - write_artifact\n  - read_artifact\n  - list_artifacts\nlimits: {max_steps: 12, max_tool_calls: 40}\n",
    ),
    // No list of its own: every public host, and nothing else.
    (
        "wide.yml",
        "name: wide\nmodel: scripted/victim\ntools:\n  - {name: http_request, effect: none}\nlimits: {max_steps: 8}\n",
    ),
    (
        "payer.yml",
        "name: payer\nmodel: scripted/victim\ntools:\n  - {name: http_request, allow: [\"SINK\"], effect: none}\n  - {name: echo, effect: once, approval: always}\nlimits: {max_steps: 8}\n",
    ),
    (
        "delegator.yml",
        "name: delegator\nmodel: scripted/victim\ntools:\n  - {name: http_request, allow: [\"SINK\"], effect: none}\n  - delegate\n  - send_message\n  - list_agents\ndelegates: [clerk]\nlimits: {max_steps: 8, max_depth: 2, max_children: 3}\n",
    ),
    (
        "clerk.yml",
        "name: clerk\ndescription: Reads a page.\nmodel: scripted/victim\ntools:\n  - {name: http_request, allow: [\"SINK\"], effect: none}\n  - delegate\ndelegates: [helper]\nlimits: {max_steps: 8, max_depth: 2, max_children: 3}\n",
    ),
    (
        "helper.yml",
        "name: helper\nmodel: scripted/victim\ntools:\n  - {name: http_request, allow: [\"SINK\"], effect: none}\n",
    ),
    (
        "frugal.yml",
        "name: frugal\nmodel: scripted/victim\ntools:\n  - {name: http_request, allow: [\"SINK\"], effect: none}\n  - echo\nbudget: {model_calls: 4, tool_calls: 6}\n",
    ),
    (
        "thrifty.yml",
        "name: thrifty\nmodel: scripted/victim\ntools:\n  - {name: http_request, allow: [\"SINK\"], effect: none}\n  - delegate\ndelegates: [clerk]\nbudget: {model_calls: 6}\n",
    ),
    // More rights than anybody who could be talked into using it; nobody may give it work.
    (
        "boss.yml",
        "name: boss\ndescription: May do all.\nmodel: scripted/victim\ntools: [http_request, echo, remember]\n",
    ),
    (
        "bystander.yml",
        "name: bystander\nmodel: scripted/bystander\ntools:\n  - {name: echo, effect: once, approval: always}\n",
    ),
];

const SCRIPTS: &[(&str, &str)] = &[
    (
        "victim.yml",
        "obeys: true\nturns:\n  - tool_calls: [{name: http_request, arguments: {method: GET, url: \"{{prompt}}\"}}]\n  - text: \"I read: {{last_tool_result}}\"\n    repeat: true\n",
    ),
    (
        "bystander.yml",
        "turns:\n  - tool_calls: [{name: echo, arguments: {text: \"wire the money\"}}]\n  - text: Done.\n",
    ),
];

/// What must not change, whatever a model says.
#[derive(Debug, PartialEq)]
pub(crate) struct Untouched {
    configs: Value,
    files: BTreeMap<String, Vec<u8>>,
    bystander: Value,
    boss: Value,
    memory: Value,
}

pub(crate) struct House {
    pub(crate) home: Home,
    pub(crate) library: Library,
    pub(crate) trap: Trap,
    pub(crate) platform: Platform,
    pub(crate) bystander: String,
    pub(crate) call: String,
    pub(crate) digest: String,
    pub(crate) secret_file: String,
    http: reqwest::Client,
    urls: BTreeMap<String, String>,
}

impl House {
    pub(crate) async fn new() -> Self {
        common::tls::install();
        let library = Library::start().await;
        let trap = Trap::set().await;
        let home = Home::with(AGENTS, SCRIPTS, &library.address.to_string());
        let secret_file = home.dir.path().join("secret.txt");
        std::fs::write(&secret_file, SECRET).expect("written");
        let settings = [("OPENAI_API_KEY", SECRET), ("AGENTRUNNER_MODEL", "scripted/victim")];
        let platform = home.start_with(&settings).await.expect("starts");
        let told = std::fs::read(home.dir.path().join("data/agentrunner.json")).expect("told");
        let told: Value = serde_json::from_slice(&told).expect("JSON");
        let urls = serde_json::from_value(told["urls"].clone()).expect("addresses");
        let mut house = Self {
            home,
            library,
            trap,
            platform,
            bystander: String::new(),
            call: String::new(),
            digest: String::new(),
            secret_file: secret_file.display().to_string(),
            http: reqwest::Client::new(),
            urls,
        };
        let agents = house.wait_for_agents().await;
        assert_eq!(
            agents,
            AGENTS.len(),
            "every agent is active: {}",
            house.get("config-service", "/configs/errors").await
        );
        let task = house.submit("bystander", "pay").await;
        let waiting = house.settled(&task).await;
        let wait = &waiting["waiting_for"][0];
        assert_eq!(wait["kind"], "approval", "{waiting}");
        let word = |key: &str| wait[key].as_str().expect("text").to_owned();
        (house.call, house.digest) = (word("call_id"), word("digest"));
        house.bystander = task;
        house
    }

    async fn wait_for_agents(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let agents = self.get("agent-orchestrator", "/agents").await;
            let count = agents.as_array().map_or(0, Vec::len);
            if count == AGENTS.len() || Instant::now() > deadline {
                return count;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The host and port of a service.
    pub(crate) fn place(&self, service: &str) -> String {
        let url = &self.urls[service];
        url.trim_start_matches("http://").trim_end_matches('/').to_owned()
    }

    pub(crate) async fn get(&self, service: &str, path: &str) -> Value {
        let url = format!("http://{}{path}", self.place(service));
        let answer = self.http.get(url).send().await.expect("an answer");
        answer.json().await.unwrap_or_default()
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("http://{}{path}", self.place("agent-orchestrator"));
        self.http.post(url).json(body).send().await.expect("an answer").json().await.unwrap_or_default()
    }

    pub(crate) async fn submit(&self, agent: &str, prompt: &str) -> String {
        let task = self.post("/tasks", &json!({ "agent": agent, "prompt": prompt })).await;
        task["id"].as_str().unwrap_or_else(|| panic!("{task}")).to_owned()
    }

    pub(crate) async fn cancel(&self, task: &str) {
        self.post(&format!("/tasks/{task}/cancel"), &json!({})).await;
    }

    /// Waits until a task has ended or waits for a person.
    pub(crate) async fn settled(&self, task: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let view = self.get("agent-orchestrator", &format!("/tasks/{task}")).await;
            let status = view["status"].as_str().unwrap_or_default();
            let kinds = view["waiting_for"].as_array().into_iter().flatten();
            let person = kinds.filter_map(|wait| wait["kind"].as_str()).any(|kind| kind != "child");
            if matches!(status, "succeeded" | "failed" | "cancelled") || (status == "waiting" && person) {
                return view;
            }
            assert!(Instant::now() < deadline, "task {task} does not settle: {view}\n{}", self.platform.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn journal(&self, task: &str) -> Vec<Value> {
        let page = self.get("agent-orchestrator", &format!("/tasks/{task}/journal?limit=1000")).await;
        page["items"].as_array().or(page.as_array()).cloned().unwrap_or_default()
    }

    /// All tasks, newest first.
    pub(crate) async fn tasks(&self) -> Vec<Value> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get("agent-orchestrator", &format!("/tasks?limit=1000{cursor}")).await;
            all.extend(page["items"].as_array().cloned().unwrap_or_default());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    pub(crate) async fn untouched(&self) -> Untouched {
        let mut files = BTreeMap::new();
        for folder in ["agents", "scripts"] {
            read_all(&self.home.dir.path().join(folder), &mut files);
        }
        let bystander = self.journal(&self.bystander).await.into();
        let boss: Vec<Value> = self.tasks().await.into_iter().filter(|task| task["agent"] == "boss").collect();
        Untouched {
            configs: self.get("config-service", "/configs").await,
            files,
            bystander,
            boss: boss.into(),
            memory: self.boss_memory().await,
        }
    }

    /// What other agents than the readers remember.
    async fn boss_memory(&self) -> Value {
        let page = self.get("state-manager", "/states/memory-agent?limit=1000").await;
        let items = page["items"].as_array().cloned().unwrap_or_default();
        items.into_iter().filter(|item| !item["key"].as_str().unwrap_or_default().starts_with("reader")).collect()
    }
}

fn read_all(folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        files.insert(path.display().to_string(), std::fs::read(&path).unwrap_or_default());
    }
}
