//! The binary in a folder of its own, without this machine's environment.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;

/// Long enough for a loaded machine; a healthy run takes a small part of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with agents, dialogues and data.
pub(crate) struct Home {
    dir: tempfile::TempDir,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Checks the exit code.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Reads the output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

impl Home {
    /// The repository's own agents and dialogues, in a new folder.
    pub(crate) fn new() -> Self {
        let home = Self { dir: tempfile::tempdir().unwrap() };
        for folder in ["agents", "scripts"] {
            std::fs::create_dir(home.path(folder)).unwrap();
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config").join(folder);
            for file in std::fs::read_dir(from).unwrap() {
                let file = file.unwrap();
                std::fs::copy(file.path(), home.path(folder).join(file.file_name())).unwrap();
            }
        }
        home
    }

    /// Adds an agent that plays a dialogue.
    pub(crate) fn scripted(&self, name: &str, settings: &str, dialogue: &str) {
        let agent = format!("name: {name}\nmodel: scripted/{name}\n{settings}");
        std::fs::write(self.path("agents").join(format!("{name}.yml")), agent).unwrap();
        std::fs::write(self.path("scripts").join(format!("{name}.yml")), dialogue).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The binary with arguments.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agentrunner"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.dir.path())
            .env("AGENTRUNNER_DATA", self.path("data"))
            .env("AGENTRUNNER_SCRIPTS", self.path("scripts"))
            .env("AGENTRUNNER_PROBE", "false")
            // Nobody here needs the local model, and nothing is downloaded.
            .env("AGENTRUNNER_MODEL", "scripted/demo-tools")
            .env("AGENT_CONFIG_DIR", self.path("agents"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        finish(self.command(args).spawn().unwrap())
    }

    /// Runs a command with an input.
    #[track_caller]
    pub(crate) fn run_with(&self, args: &[&str], input: &str) -> Ran {
        use std::io::Write as _;
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        finish(child)
    }

    /// Starts `agentrunner dev` on free ports and waits until it listens.
    #[track_caller]
    pub(crate) fn dev(&self) -> Dev {
        let mut child = self.command(&["dev", "--ports", "random"]).spawn().unwrap();
        let url = until("the platform listens", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the platform ended: {status}");
            }
            self.announced()?["urls"]["agent-orchestrator"].as_str().map(str::to_owned)
        });
        Dev { child: Some(child), url }
    }

    /// What the platform of this folder says of itself.
    pub(crate) fn announced(&self) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.path("data").join("agentrunner.json")).ok()?).ok()
    }
}

/// A running `agentrunner dev`.
pub(crate) struct Dev {
    child: Option<Child>,
    pub(crate) url: String,
}

impl Dev {
    /// Stops it in order.
    #[track_caller]
    pub(crate) fn stop(mut self) -> Ran {
        let child = self.child.take().unwrap();
        signal(&child, "TERM");
        finish(child)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends a signal.
pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// Waits for the end of a process, and kills it when that does not come.
#[track_caller]
pub(crate) fn finish(child: Child) -> Ran {
    let id = child.id();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(PATIENCE) else {
        let _ = Command::new("kill").args(["-KILL", &id.to_string()]).status();
        panic!("the command does not end");
    };
    let Output { status, stdout, stderr } = output.unwrap();
    Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}

/// Waits until there is something.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    #[expect(clippy::disallowed_methods, reason = "a deadline of a test against real processes")]
    let begun = SystemTime::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed().unwrap_or_default() < PATIENCE, "gave up waiting until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
