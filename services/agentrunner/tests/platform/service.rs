//! One service as a process.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::binaries::program;

/// Long enough for a loaded machine; a healthy service takes a small part of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// What a service does in the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    States,
    Configs,
    Orchestrator,
    Pool,
}

impl Role {
    pub(crate) const ALL: [Self; 4] = [Self::States, Self::Configs, Self::Orchestrator, Self::Pool];

    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::States => "state-manager",
            Self::Configs => "config-service",
            Self::Orchestrator => "agent-orchestrator",
            Self::Pool => "agent-pool",
        }
    }

    pub(crate) fn address_setting(self) -> &'static str {
        match self {
            Self::States => "STATE_MANAGER_ADDRESS",
            Self::Configs => "CONFIG_SERVICE_ADDRESS",
            Self::Orchestrator => "ORCHESTRATOR_ADDRESS",
            Self::Pool => "AGENT_POOL_ADDRESS",
        }
    }
}

/// A running process, whose words are in a file.
pub(crate) struct Service {
    child: Child,
    log: PathBuf,
    from: u64,
    pub(crate) url: String,
}

impl Service {
    pub(crate) fn spawn(role: Role, port: u16, folder: &Path, log: PathBuf, settings: &[(String, String)]) -> Self {
        let file = std::fs::File::options().create(true).append(true).open(&log).expect("a log");
        let from = file.metadata().expect("a file").len();
        let mut command = Command::new(program(role));
        command
            .current_dir(folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", folder)
            .env("LOG_LEVEL", "info")
            .env(role.address_setting(), format!("127.0.0.1:{port}"))
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a log"))
            .stderr(file)
            .kill_on_drop(true);
        let child = command.spawn().expect("the program starts");
        Self { child, log, from, url: format!("http://127.0.0.1:{port}") }
    }

    /// What it said since it was started.
    pub(crate) fn log(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(text.get(self.from as usize..).unwrap_or_default()).into_owned()
    }

    pub(crate) fn reached(&self, point: &str) -> bool {
        self.log().contains(&format!("failpoint {point} reached"))
    }

    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            kill_process(pid, signal).expect("an own child can be signalled");
        }
    }

    pub(crate) async fn wait_exit(&mut self) -> ExitStatus {
        let Ok(status) = tokio::time::timeout(PATIENCE, self.child.wait()).await else {
            panic!("a service does not end: {}", self.log());
        };
        status.expect("a child")
    }

    pub(crate) async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait_exit().await;
    }

    /// Whether it says that it can work, and if not, why.
    pub(crate) async fn ready(&self, http: &reqwest::Client) -> Result<(), String> {
        let answer = http.get(format!("{}/health/ready", self.url)).send().await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        if status.is_success() { Ok(()) } else { Err(format!("{status} {text}")) }
    }

    /// What it counts, as Prometheus reads it.
    pub(crate) async fn metrics(&self, http: &reqwest::Client) -> String {
        let answer = http.get(format!("{}/metrics", self.url)).send().await.expect("it answers");
        answer.text().await.expect("a text")
    }

    /// Waits until it can work; false when it ends before.
    pub(crate) async fn wait_ready(&mut self, http: &reqwest::Client) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Err(reason) = self.ready(http).await else { return true };
            if self.exited().is_some() {
                return false;
            }
            assert!(Instant::now() < deadline, "not ready: {reason}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}
