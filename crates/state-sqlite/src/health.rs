//! Whether the store may still be used: open, closed, or poisoned by a disk that can no longer be trusted.

use std::sync::atomic::{AtomicU8, Ordering};

use state::StateError;

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const POISONED: u8 = 2;

/// Shared by the callers and the writer.
#[derive(Debug, Default)]
pub(crate) struct Health(AtomicU8);

impl Health {
    /// Refuses work unless the store is open.
    pub(crate) fn check(&self) -> Result<(), StateError> {
        match self.0.load(Ordering::Acquire) {
            OPEN => Ok(()),
            CLOSED => Err(StateError::Closed),
            _ => Err(poisoned()),
        }
    }

    /// Refuses all further work. After a failed sync the system may have dropped what was to be written, and a later
    /// one that succeeds would prove nothing: only a restart, which reads what is really there, may go on.
    pub(crate) fn poison(&self) {
        if self.0.swap(POISONED, Ordering::AcqRel) != POISONED {
            tracing::error!("the disk failed; the store refuses all further work until the process is restarted");
        }
    }

    /// Refuses all further work in an orderly way; false when it was closed before.
    pub(crate) fn close(&self) -> bool {
        self.0.compare_exchange(OPEN, CLOSED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Why a job was dropped without an answer.
    pub(crate) fn reason(&self) -> StateError {
        self.check().err().unwrap_or_else(|| StateError::Unavailable("the store's writer has stopped".to_owned()))
    }
}

fn poisoned() -> StateError {
    StateError::Unavailable(
        "an earlier read, write or sync of the disk failed; check the disk, then restart the process".to_owned(),
    )
}
