//! One process a data directory: everything above relies on being the only writer.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::Path;

use state::StateError;

const NAME: &str = "agentrunner.lock";

/// Makes the names of new files survive a power cut, as their contents do.
pub(crate) fn sync_names(dir: &Path) -> Result<(), StateError> {
    let sync = |dir: &Path| File::open(dir).and_then(|dir| dir.sync_all());
    sync(dir).map_err(|error| StateError::Unavailable(format!("cannot sync {}: {error}", dir.display())))?;
    // The directory's own name; whoever runs the process may not be allowed to open what is above it.
    if let Some(parent) = std::path::absolute(dir).ok().as_deref().and_then(Path::parent) {
        let _ = sync(parent);
    }
    Ok(())
}

/// Holds the directory until it is dropped; a killed process lets go by dying.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the directory for this process, and makes it when there is none.
    pub(crate) fn take(dir: &Path) -> Result<Self, StateError> {
        let failed = |doing: &str, error: &dyn std::fmt::Display| {
            StateError::Unavailable(format!("cannot {doing} in the data directory {}: {error}", dir.display()))
        };
        std::fs::create_dir_all(dir).map_err(|error| failed("make what is missing", &error))?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join(NAME))
            .map_err(|error| failed("open the lock", &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = holder.trim();
                let holder = if holder.is_empty() { "unknown" } else { holder };
                return Err(StateError::Unavailable(format!(
                    "the data directory {} is in use by another agentrunner process (pid {holder}); stop it or choose another directory",
                    dir.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(failed("take the lock", &error)),
        }
        // Only for the message above: a file that cannot say who holds it still locks.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}
