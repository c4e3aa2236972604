//! How other processes find a platform: a file in its data folder that says where it listens, for as long as it does.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const NAME: &str = "agentrunner.json";

/// The orchestrator's name among the addresses.
pub const ORCHESTRATOR: &str = "agent-orchestrator";
/// The config service's name among the addresses.
pub const CONFIG_SERVICE: &str = "config-service";

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The process.
    pub pid: u32,
    /// True for a platform that ends with the command that started it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transient: bool,
    /// Where its services listen.
    pub urls: BTreeMap<String, String>,
}

impl Running {
    /// Reads the file of a data folder. It may be left over from a process that was killed.
    pub fn find(data: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(data.join(NAME)).ok()?).ok()
    }

    /// Where the orchestrator listens; `None` when the process is gone, whose ports may be another's by now.
    pub fn url(&self) -> Option<&str> {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let gone = rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
        if gone { None } else { self.urls.get(ORCHESTRATOR).map(String::as_str) }
    }
}

/// The file; removed when it is dropped.
#[derive(Debug)]
pub struct Announcement {
    path: PathBuf,
    pid: u32,
}

impl Announcement {
    /// Writes the file, in one step.
    pub fn write(data: &Path, running: &Running) -> io::Result<Self> {
        let path = data.join(NAME);
        let unfinished = data.join(format!(".{NAME}.{}", running.pid));
        std::fs::write(&unfinished, serde_json::to_vec_pretty(running)?)?;
        std::fs::rename(&unfinished, &path)?;
        Ok(Self { path, pid: running.pid })
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // Another process may have written its own by now.
        let ours = self.path.parent().and_then(Running::find).is_some_and(|running| running.pid == self.pid);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the announcement could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_is_found_as_long_as_it_runs() {
        let dir = tempfile::tempdir().unwrap();
        let urls = BTreeMap::from([(ORCHESTRATOR.to_owned(), "http://127.0.0.1:1".to_owned())]);
        let running = Running { pid: std::process::id(), transient: false, urls };
        let announcement = Announcement::write(dir.path(), &running).unwrap();
        assert_eq!(Running::find(dir.path()), Some(running.clone()));
        assert_eq!(running.url(), Some("http://127.0.0.1:1"));
        drop(announcement);
        assert_eq!(Running::find(dir.path()), None);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_platform_that_was_killed_has_no_address() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let urls = BTreeMap::from([(ORCHESTRATOR.to_owned(), "http://127.0.0.1:1".to_owned())]);
        assert_eq!(Running { pid, transient: false, urls }.url(), None);
    }

    #[test]
    fn the_announcement_of_another_process_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let running = |pid| Running { pid, transient: true, urls: BTreeMap::new() };
        let old = Announcement::write(dir.path(), &running(1)).unwrap();
        let _new = Announcement::write(dir.path(), &running(2)).unwrap();
        drop(old);
        assert_eq!(Running::find(dir.path()), Some(running(2)));
    }
}
