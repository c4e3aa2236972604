//! The database file: how connections are set up, and how its schema comes up to date.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use state::StateError;

use crate::fault::state_error;

/// The migrations, in order; the position of the last one applied is the file's `user_version`.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/sqlite/0001_record.sql"),
    include_str!("../../../migrations/sqlite/0002_budgets.sql"),
    include_str!("../../../migrations/sqlite/0003_gates.sql"),
];

const FILE: &str = "agentrunner.db";
/// Only a foreign process (a backup, a person with a shell) can make us wait for a lock.
const FOREIGN_LOCK_WAIT: Duration = Duration::from_secs(5);

/// The database file in a data directory.
pub(crate) fn file(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// Opens the one connection that writes, and brings the schema up to date.
pub(crate) fn open_writer(dir: &Path, max_pages: Option<u32>) -> Result<Connection, StateError> {
    let mut conn = connect(dir, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    let pragmas = "PRAGMA page_size = 4096;
        PRAGMA journal_mode = WAL;
        PRAGMA synchronous = FULL;
        PRAGMA wal_autocheckpoint = 0;
        PRAGMA cache_size = -16384;
        PRAGMA temp_store = MEMORY;";
    conn.execute_batch(pragmas).map_err(|error| opening(dir, &error))?;
    conn.set_prepared_statement_cache_capacity(256);
    migrate(&mut conn, dir)?;
    if let Some(pages) = max_pages {
        let sql = format!("PRAGMA max_page_count = {pages}");
        conn.query_row(&sql, [], |_| Ok(())).map_err(|error| opening(dir, &error))?;
    }
    Ok(conn)
}

/// Opens a connection that moves the log into the database file.
pub(crate) fn open_checkpointer(dir: &Path) -> Result<Connection, StateError> {
    let conn = connect(dir, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let pragmas = "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;";
    conn.execute_batch(pragmas).map_err(|error| opening(dir, &error))?;
    Ok(conn)
}

/// Opens a connection that only reads.
pub(crate) fn open_reader(dir: &Path) -> Result<Connection, StateError> {
    let conn = connect(dir, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let pragmas = "PRAGMA cache_size = -8192; PRAGMA temp_store = MEMORY;";
    conn.execute_batch(pragmas).map_err(|error| opening(dir, &error))?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(conn)
}

fn connect(dir: &Path, flags: OpenFlags) -> Result<Connection, StateError> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(file(dir), flags).map_err(|error| opening(dir, &error))?;
    conn.busy_timeout(FOREIGN_LOCK_WAIT).map_err(|error| opening(dir, &error))?;
    Ok(conn)
}

fn opening(dir: &Path, error: &rusqlite::Error) -> StateError {
    let path = file(dir);
    match state_error(error) {
        StateError::Corrupt(why) => StateError::Corrupt(format!("{}: {why}", path.display())),
        other => StateError::Unavailable(format!("cannot open {}: {other}", path.display())),
    }
}

fn migrate(conn: &mut Connection, dir: &Path) -> Result<(), StateError> {
    let known = MIGRATIONS.len() as i64;
    let version: i64 =
        conn.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(|error| opening(dir, &error))?;
    if version > known {
        return Err(StateError::Unavailable(format!(
            "{} was written by a newer agentrunner (schema {version}, this one knows up to {known}); use that version or another directory",
            file(dir).display()
        )));
    }
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(version.max(0) as usize) {
        let number = index as i64 + 1;
        let apply = |conn: &mut Connection| {
            let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            tx.execute_batch(migration)?;
            tx.pragma_update(None, "user_version", number)?;
            tx.commit()
        };
        apply(conn).map_err(|error| {
            StateError::Unavailable(format!("cannot bring {} to schema {number}: {error}", file(dir).display()))
        })?;
        tracing::info!(schema = number, "database migrated");
    }
    Ok(())
}

/// The bytes of the database and its log.
pub(crate) fn bytes_on_disk(dir: &Path) -> u64 {
    let log = dir.join(format!("{FILE}-wal"));
    [file(dir), log].iter().filter_map(|path| std::fs::metadata(path).ok()).map(|metadata| metadata.len()).sum()
}
