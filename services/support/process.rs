//! A service's real binary as a process of its own, shared by the services' tests.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A process, killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    url: String,
    http: reqwest::Client,
}

/// The command with these settings and nothing else of the environment.
pub(crate) fn command(binary: &str, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LOG_LEVEL", "info");
    command.envs(settings.iter().copied()).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) fn finish(binary: &str, arguments: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command(binary, settings).args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Every setting that the program prints has its place in the operators' table.
pub(crate) fn assert_settings_are_documented(binary: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/settings.md");
    let docs = std::fs::read_to_string(path).unwrap();
    let (code, printed, stderr) = finish(binary, &["--print-config"], &[]);
    assert_eq!(code, Some(0), "{stderr}");
    for line in printed.lines() {
        let name = line.trim_start_matches("# ").split(' ').next().unwrap().to_uppercase();
        assert!(docs.contains(&format!("`{name}`")), "docs/settings.md does not name {name}");
    }
}

/// A port that was free a moment ago: a health check must know it before the service has it.
pub(crate) fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// `user`, `password`, `host`, `port` and path of `scheme://user:password@host:port/path`.
pub(crate) fn parts(url: &str) -> [String; 5] {
    let url: url::Url = url.parse().unwrap();
    [
        url.username().to_owned(),
        url.password().unwrap_or_default().to_owned(),
        url.host_str().unwrap().to_owned(),
        url.port().unwrap().to_string(),
        url.path().trim_start_matches('/').to_owned(),
    ]
}

impl Process {
    /// Starts it and waits until it answers at `address`; what it logs goes to `log`.
    pub(crate) async fn start(binary: &str, address: &str, settings: &[(&str, &str)], log: &Path) -> Self {
        common::tls::install();
        let log = std::fs::File::create(log).unwrap();
        let child = command(binary, settings).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let mut process = Self { child, url: format!("http://{address}"), http };
        let deadline = Instant::now() + PATIENCE;
        while process.http.get(process.url("/health/live")).send().await.is_err() {
            assert!(process.child.try_wait().unwrap().is_none(), "it ended before it listened");
            assert!(Instant::now() < deadline, "it does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        process
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.http.get(self.url(path)).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }

    /// Asks until the answer is as wanted, and returns it.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, body) = self.get(path).await;
            if wanted(status, &body) {
                return body;
            }
            assert!(Instant::now() < deadline, "{path}: {status} {body}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks it to stop by SIGTERM; its exit code.
    pub(crate) async fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not stop");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
