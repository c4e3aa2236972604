//! Starting a server's program under its supervisor.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::supervisor::SUPERVISE;
use crate::fate::Fate;
use crate::text;

/// The only folders that a program finds others in, unless the operator sets PATH.
const PLAIN_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The longest line of a program's complaints that is looked at.
const MAX_COMPLAINT: usize = 1_024;
/// How many lines of complaints of one program are logged.
const MAX_COMPLAINTS: u32 = 500;
/// How long a supervisor has to end what it supervises.
const END: Duration = Duration::from_secs(2);
/// How long a program's last words are waited for.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What supervises the programs: a binary, and the arguments that make it do so.
#[derive(Debug, Clone)]
pub struct Launcher {
    program: PathBuf,
    args: Vec<OsString>,
}

impl Launcher {
    /// The binary of this process, whose `main` asks `supervisor::run_if_asked` first.
    pub fn own() -> Self {
        Self::new("/proc/self/exe")
    }

    /// Another binary of the same kind.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: vec![SUPERVISE.into()] }
    }
}

/// What is started.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    /// Values that must not appear in logs.
    pub(crate) secrets: Vec<String>,
    pub(crate) cwd: Option<PathBuf>,
}

/// A started program.
pub(crate) struct Running {
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
    pub(crate) remains: Remains,
}

/// What is left of a program when nobody speaks to it any more.
pub(crate) struct Remains {
    /// It ends, and everything with it, when the program's standard input is dropped.
    supervisor: Child,
    complaints: Option<JoinHandle<()>>,
}

/// Starts a program. Its complaints are logged, and the last of them kept in `fate`.
pub(crate) fn start(
    launcher: &Launcher,
    server: &str,
    program: &Program,
    fate: &Arc<Fate>,
) -> std::io::Result<Running> {
    let mut command = Command::new(&launcher.program);
    command
        .args(&launcher.args)
        .arg(&program.path)
        .args(&program.args)
        .env_clear()
        .env("PATH", PLAIN_PATH)
        .envs(&program.env)
        .current_dir(program.cwd.as_deref().unwrap_or(std::path::Path::new("/")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut supervisor = command.spawn()?;
    let missing = || std::io::Error::other("a pipe is missing");
    let stdin = supervisor.stdin.take().ok_or_else(missing)?;
    let stdout = supervisor.stdout.take().ok_or_else(missing)?;
    let complaints = supervisor
        .stderr
        .take()
        .map(|stderr| tokio::spawn(listen(server.to_owned(), stderr, program.secrets.clone(), Arc::clone(fate))));
    Ok(Running { stdin, stdout, remains: Remains { supervisor, complaints } })
}

/// Waits for the end of a program that nobody speaks to any more; it must not take long.
pub(crate) async fn reap(mut remains: Remains, fate: &Fate) {
    match tokio::time::timeout(END, remains.supervisor.wait()).await {
        Ok(Ok(status)) => fate.ended(status),
        Ok(Err(_)) => {}
        Err(_) => {
            let _ = remains.supervisor.kill().await;
        }
    }
    if let Some(complaints) = remains.complaints {
        let _ = tokio::time::timeout(LAST_WORDS, complaints).await;
    }
    fate.gone.cancel();
}

/// Reads a program's complaints to their end, or it would block on them.
async fn listen(server: String, stderr: ChildStderr, secrets: Vec<String>, fate: Arc<Fate>) {
    let mut lines = BufReader::new(stderr);
    let mut line = Vec::new();
    let mut logged = 0;
    loop {
        line.clear();
        match (&mut lines).take(MAX_COMPLAINT as u64).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let complaint = redact(&text::line(&String::from_utf8_lossy(&line), MAX_COMPLAINT), &secrets);
        if complaint.is_empty() {
            continue;
        }
        if logged < MAX_COMPLAINTS {
            logged += 1;
            tracing::debug!(%server, complaint, "a tool server complains");
        }
        fate.complained(complaint);
    }
}

fn redact(text: &str, secrets: &[String]) -> String {
    let secrets = secrets.iter().filter(|secret| secret.len() >= 4);
    secrets.fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
}
