//! Moves the write-ahead log into the database file, in small portions and away from the writer.
//!
//! SQLite's own checkpoints would stop the writer for tens of milliseconds. Here a second connection copies what is
//! committed every little while; the writer copies only the rest, when the log has become long, because a log starts
//! anew only at a moment when all of it is copied.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use state::StateError;

use crate::fault::is_fatal;
use crate::health::Health;
use crate::schema;

/// A portion: about so many pages between two checkpoints.
const PORTION: usize = 2_000;
/// Pages that a commit writes beside one for each operation.
const PAGES_OF_A_COMMIT: usize = 4;
/// From this many pages on, the writer helps to let the log start anew: a log that is written over and over needs no
/// more space, which makes its syncs twice as fast.
const LONG_LOG: i64 = 2_000;
/// How long a few commits may stay in the log alone.
const IDLE: Duration = Duration::from_secs(1);

/// The writer's side.
pub(crate) struct Checkpoints {
    shared: Arc<Shared>,
    kick: SyncSender<()>,
    thread: JoinHandle<()>,
    health: Arc<Health>,
    since: std::cell::Cell<usize>,
}

struct Shared {
    /// Something was committed since the last checkpoint.
    dirty: AtomicBool,
    /// A checkpoint is under way.
    busy: AtomicBool,
    /// The log's length in pages at the last checkpoint.
    log: AtomicI64,
}

impl Checkpoints {
    /// Starts the thread.
    pub(crate) fn start(dir: &Path, health: Arc<Health>) -> Result<Self, StateError> {
        let conn = schema::open_checkpointer(dir)?;
        let shared =
            Arc::new(Shared { dirty: AtomicBool::new(false), busy: AtomicBool::new(false), log: AtomicI64::new(0) });
        let (kick, kicked) = sync_channel(1);
        let worker = Arc::clone(&shared);
        let watched = Arc::clone(&health);
        let thread = std::thread::Builder::new()
            .name("state-checkpoint".to_owned())
            .spawn(move || worker.run(&conn, &kicked, &watched))
            .map_err(|error| StateError::Unavailable(format!("cannot start the checkpoint thread: {error}")))?;
        Ok(Self { shared, kick, thread, health, since: std::cell::Cell::new(0) })
    }

    /// Counts what was committed; asks for a checkpoint when it is a portion.
    pub(crate) fn committed(&self, operations: usize) {
        let since = self.since.get() + operations + PAGES_OF_A_COMMIT;
        let first = !self.shared.dirty.swap(true, Ordering::AcqRel);
        let portion = since >= PORTION;
        let kicked = (first || portion) && self.kick.try_send(()).is_ok();
        self.since.set(if portion && kicked { 0 } else { since });
    }

    /// Copies the rest of a long log on the writer's own time, so that the next transaction starts it anew.
    pub(crate) fn make_room(&self, conn: &Connection) {
        if self.shared.log.load(Ordering::Acquire) < LONG_LOG || self.shared.busy.load(Ordering::Acquire) {
            return;
        }
        // Tried once after each portion: when a reader is in the way, the next portion tries again.
        self.shared.log.store(0, Ordering::Release);
        if let Err(error) = checkpoint(conn) {
            tracing::error!(%error, "a checkpoint failed");
            if is_fatal(&error) {
                self.health.poison();
            }
        }
    }

    /// Stops the thread and waits for it.
    pub(crate) fn stop(self) {
        drop(self.kick);
        if self.thread.join().is_err() {
            tracing::error!("the checkpoint thread panicked");
        }
    }
}

impl Shared {
    fn run(&self, conn: &Connection, kicked: &Receiver<()>, health: &Health) {
        loop {
            // The first commit after a checkpoint wakes this thread; a whole portion, or a pause, starts the next one.
            if kicked.recv().is_err() || kicked.recv_timeout(IDLE) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            self.dirty.store(false, Ordering::Release);
            self.busy.store(true, Ordering::Release);
            match checkpoint(conn) {
                Ok(log) => self.log.store(log, Ordering::Release),
                Err(error) => {
                    tracing::error!(%error, "a checkpoint failed");
                    if is_fatal(&error) {
                        health.poison();
                    }
                }
            }
            self.busy.store(false, Ordering::Release);
        }
    }
}

/// Copies what it can without waiting for anybody; returns the log's length in pages, as it was at the beginning: what was
/// committed since is not in it, so even a checkpoint that copied all of it may not let the log start anew.
fn checkpoint(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))
}
