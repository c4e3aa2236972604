//! Records the files that are kept with a task.

use domain::{Lease, Namespace, TaskId};
use rusqlite::{Connection, params};
use state::{Artifact, MAX_ARTIFACT_BYTES, MAX_ARTIFACTS, StateError};

use super::append::held;
use crate::fault::Written;
use crate::tx::Tx;
use crate::writer::Write;
use state::codec::{corrupt, micros, timestamp};

/// Records one file under a lease.
pub(crate) struct PutArtifact {
    pub(crate) lease: Lease,
    pub(crate) artifact: Artifact,
}

impl Write for PutArtifact {
    type Output = ();

    fn guarded(&self, _tx: &Tx<'_>) -> bool {
        false
    }

    fn apply(self, tx: &Tx<'_>) -> Written<()> {
        let Self { lease, artifact } = self;
        let owned = held(tx, lease)?;
        let sql = "SELECT count(*), coalesce(sum(size), 0) FROM artifacts WHERE task_key = ?1 AND name <> ?2";
        let (count, bytes): (i64, i64) =
            tx.statement(sql)?.query_row(params![owned.key, artifact.name], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if count as usize >= MAX_ARTIFACTS {
            let why = format!("task {} has {count} artifacts, the most that a task may have", lease.task);
            return Err(StateError::TooLarge(why).into());
        }
        let total = (bytes as u64).saturating_add(artifact.size);
        if total > MAX_ARTIFACT_BYTES {
            let why = format!(
                "the artifacts of task {} would have {total} bytes; a task may have {MAX_ARTIFACT_BYTES}",
                lease.task
            );
            return Err(StateError::TooLarge(why).into());
        }
        let Artifact { name, media_type, size, digest, at } = artifact;
        let sql = "INSERT INTO artifacts (task_key, name, media_type, size, digest, at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (task_key, name) DO UPDATE \
             SET media_type = excluded.media_type, size = excluded.size, digest = excluded.digest, at = excluded.at";
        tx.execute(sql, params![owned.key, name, media_type, size as i64, digest, micros(at)])?;
        Ok(())
    }
}

/// Deletes a task's files; their bytes go when nothing refers to them.
pub(crate) fn forget(tx: &Tx<'_>, task_key: i64) -> Written<()> {
    tx.execute("DELETE FROM artifacts WHERE task_key = ?1", params![task_key])?;
    Ok(())
}

/// Lists a task's files by name.
pub(crate) fn list(conn: &Connection, namespace: &Namespace, task: TaskId) -> Written<Vec<Artifact>> {
    let sql = "SELECT name, media_type, size, digest, at FROM artifacts \
         WHERE task_key = (SELECT key FROM tasks WHERE id = ?1 AND namespace = ?2) ORDER BY name";
    let mut statement = conn.prepare_cached(sql)?;
    let mut found = statement.query(params![task.0.as_bytes(), namespace.as_str()])?;
    let mut artifacts = Vec::new();
    while let Some(row) = found.next()? {
        let digest = row.get::<_, Vec<u8>>(3)?;
        let digest = digest.try_into().map_err(|_| corrupt("a digest", "its length is wrong"))?;
        let size = row.get::<_, i64>(2)? as u64;
        let at = timestamp(row.get(4)?)?;
        artifacts.push(Artifact { name: row.get(0)?, media_type: row.get(1)?, size, digest, at });
    }
    Ok(artifacts)
}

/// Tells which blobs a file refers to.
pub(crate) fn referenced(conn: &Connection, digests: &[[u8; 32]]) -> Written<Vec<bool>> {
    let mut statement = conn.prepare_cached("SELECT 1 FROM artifacts WHERE digest = ?1 LIMIT 1")?;
    Ok(digests.iter().map(|digest| statement.exists(params![digest])).collect::<Result<_, _>>()?)
}
