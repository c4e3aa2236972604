//! The real binary in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// Long enough for a loaded machine; a healthy run takes a small part of it.
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) struct Platform {
    child: Child,
    pub(crate) url: String,
    stderr: Arc<Mutex<String>>,
}

/// The folder that outlives its platforms.
pub(crate) struct Home {
    pub(crate) dir: tempfile::TempDir,
    egress: String,
}

impl Home {
    /// Writes agents and dialogues that call the sink at `sink` (`127.0.0.1:port`).
    pub(crate) fn new(sink: &str) -> Self {
        Self::with(AGENTS, SCRIPTS, sink)
    }

    /// Writes files of agents and dialogues, in which `SINK` stands for `sink`: what agents may call, as
    /// `AGENT_EGRESS_ALLOW_PRIVATE` names it.
    pub(crate) fn with(files: &[(&str, &str)], dialogues: &[(&str, &str)], sink: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let agents = dir.path().join("agents");
        let scripts = dir.path().join("scripts");
        std::fs::create_dir_all(&agents).expect("folder");
        std::fs::create_dir_all(&scripts).expect("folder");
        for (name, text) in files {
            std::fs::write(agents.join(name), text.replace("SINK", sink)).expect("agent file");
        }
        for (name, text) in dialogues {
            std::fs::write(scripts.join(name), text.replace("SINK", sink)).expect("dialogue");
        }
        Self { dir, egress: sink.to_owned() }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Starts the platform; `Err` with its exit status when it dies before it listens.
    pub(crate) async fn start(&self, failpoint: Option<&str>) -> Result<Platform, ExitStatus> {
        let plan: Vec<_> = failpoint.map(|plan| ("FAILPOINT", plan)).into_iter().collect();
        self.start_with(&plan).await
    }

    /// The same with further settings, which go before those of this harness.
    pub(crate) async fn start_with(&self, settings: &[(&str, &str)]) -> Result<Platform, ExitStatus> {
        let _ = std::fs::remove_file(self.data().join("agentrunner.json"));
        // Another build may be tried with the same tests, such as one made with a sanitizer.
        let binary = std::env::var_os("AGENTRUNNER_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_agentrunner").into());
        let mut command = Command::new(binary);
        command
            .arg("dev")
            .arg("--data")
            .arg(self.data())
            .arg("--agents")
            .arg(self.dir.path().join("agents"))
            .args(["--ports", "random"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("LOG_LEVEL", "info")
            .env("AGENTRUNNER_SCRIPTS", self.dir.path().join("scripts"))
            .env("AGENTRUNNER_PROBE", "false")
            .env("AGENT_EGRESS_ALLOW_PRIVATE", &self.egress)
            .env("AGENT_LEASE", "1s")
            .env("AGENT_RENEW_INTERVAL", "200ms")
            .env("AGENT_DRAIN_TIMEOUT", "5s")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command.envs(settings.iter().copied());
        let mut child = command.spawn().expect("the binary starts");
        let stderr = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().expect("piped"));
        let sink = Arc::clone(&stderr);
        tokio::spawn(async move {
            let mut lines = lines.lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut text = sink.lock().expect("not poisoned");
                text.push_str(&line);
                text.push('\n');
            }
        });
        let url = match wait_until_listening(&mut child, &self.data()).await {
            Ok(url) => url,
            Err(Some(status)) => return Err(status),
            Err(None) => panic!("the platform does not listen: {}", stderr.lock().expect("not poisoned")),
        };
        Ok(Platform { child, url, stderr })
    }
}

async fn wait_until_listening(child: &mut Child, data: &Path) -> Result<String, Option<ExitStatus>> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("a child") {
            return Err(Some(status));
        }
        let told = std::fs::read(data.join("agentrunner.json")).ok();
        let told: Option<Value> = told.and_then(|text| serde_json::from_slice(&text).ok());
        if let Some(url) = told.as_ref().and_then(|told| told["urls"]["agent-orchestrator"].as_str()) {
            return Ok(url.to_owned());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(None)
}

impl Platform {
    pub(crate) fn reached(&self, point: &str) -> bool {
        self.log().contains(&format!("failpoint {point} reached"))
    }

    pub(crate) fn log(&self) -> String {
        self.stderr.lock().expect("not poisoned").clone()
    }

    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    pub(crate) async fn wait_exit(&mut self) -> ExitStatus {
        let Ok(status) = tokio::time::timeout(PATIENCE, self.child.wait()).await else {
            panic!("the platform does not end: {}", self.log());
        };
        status.expect("a child")
    }

    /// Stops it in order.
    pub(crate) async fn stop(mut self) {
        if let Some(pid) = self.child.id() {
            let _ = std::process::Command::new("kill").args(["-TERM", &pid.to_string()]).status();
        }
        let status = self.wait_exit().await;
        assert_eq!(status.code(), Some(0), "an orderly stop exits with 0: {}", self.log());
    }
}

const AGENTS: &[(&str, &str)] = &[
    (
        "keyed.yml",
        "name: keyed\nmodel: scripted/keyed\ntools:\n  - name: http_request\n    allow: [\"SINK\"]\n  - delegate\n  - wait\ndelegates: [child]\nbudget: {per_hour: {tokens: 10000000, model_calls: 10000, tool_calls: 10000}}\n",
    ),
    ("child.yml", "name: child\nmodel: scripted/child\n"),
    // Enough for its two answers and one that a crash cuts off; its call is paid once for ever.
    (
        "once.yml",
        "name: once\nmodel: scripted/once\ntools:\n  - name: http_request\n    allow: [\"SINK\"]\n    effect: once\n    on_unknown: fail\nbudget: {model_calls: 3, tool_calls: 1}\nqueue: {concurrency: 2}\n",
    ),
    (
        "approved.yml",
        "name: approved\nmodel: scripted/approved\ntools:\n  - name: http_request\n    allow: [\"SINK\"]\n    effect: once\n    on_unknown: fail\n    approval: always\nbudget: {model_calls: 3, tool_calls: 1}\n",
    ),
    ("asker.yml", "name: asker\nmodel: scripted/asker\ntools: [ask]\n"),
    ("slow.yml", "name: slow\nmodel: scripted/slow\n"),
];

const SCRIPTS: &[(&str, &str)] = &[
    (
        "keyed.yml",
        "turns:\n  - text: First.\n    tool_calls:\n      - {name: http_request, arguments: {method: POST, url: \"http://SINK/keyed/a\", body: a}}\n      - {name: http_request, arguments: {method: POST, url: \"http://SINK/keyed/b\", body: b}}\n  - text: Then.\n    tool_calls:\n      - {name: delegate, arguments: {agent: child, prompt: one}}\n      - {name: delegate, arguments: {agent: child, prompt: two}}\n      - {name: wait, arguments: {for: 300ms}}\n  - text: Done.\n",
    ),
    ("child.yml", "turns:\n  - text: The child is done.\n"),
    (
        "once.yml",
        "turns:\n  - text: Paying.\n    tool_calls:\n      - {name: http_request, arguments: {method: POST, url: \"http://SINK/once\", body: pay}}\n  - text: Paid.\n",
    ),
    (
        "approved.yml",
        "turns:\n  - text: May it be paid?\n    tool_calls:\n      - {name: http_request, arguments: {method: POST, url: \"http://SINK/once/approved\", body: pay}}\n  - text: Paid.\n",
    ),
    (
        "asker.yml",
        "turns:\n  - text: May I?\n    tool_calls:\n      - {name: ask, arguments: {question: \"May I?\"}}\n  - text: \"You said: {{last_tool_result}}\"\n",
    ),
    ("slow.yml", "turns:\n  - text: one two three four five six seven eight\n    chunk_delay: 500ms\n"),
];
