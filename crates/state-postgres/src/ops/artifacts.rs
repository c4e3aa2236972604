//! Records the files that are kept with a task.

use async_trait::async_trait;
use domain::{Lease, Namespace, TaskId};
use sqlx::{PgConnection, Row as _};
use state::{Artifact, MAX_ARTIFACT_BYTES, MAX_ARTIFACTS, StateError};

use crate::fault::Written;
use crate::tx::Tx;
use crate::writer::Write;
use state::codec::{corrupt, micros, timestamp};

/// Records one file under a lease.
pub(crate) struct PutArtifact {
    pub(crate) lease: Lease,
    pub(crate) artifact: Artifact,
}

#[async_trait]
impl Write for PutArtifact {
    type Output = ();

    fn guarded(&self) -> bool {
        false
    }

    fn locks_books(&self) -> bool {
        false
    }

    async fn apply(&self, tx: &mut Tx<'_>) -> Written<()> {
        let Self { lease, artifact } = self;
        let lost = StateError::LeaseLost { task: lease.task, epoch: lease.epoch };
        let owned = tx.held(*lease).await?.ok_or(lost)?;
        let Artifact { name, media_type, size, digest, at } = artifact;
        let sql = "SELECT count(*), coalesce(sum(size), 0)::bigint FROM artifacts WHERE task_key = $1 AND name <> $2";
        let others = sqlx::query(sql).bind(owned.key).bind(name.as_str()).fetch_one(&mut *tx.conn).await?;
        let (count, bytes): (i64, i64) = (others.try_get(0)?, others.try_get(1)?);
        if count as usize >= MAX_ARTIFACTS {
            let why = format!("task {} has {count} artifacts, the most that a task may have", lease.task);
            return Err(StateError::TooLarge(why).into());
        }
        let total = (bytes as u64).saturating_add(*size);
        if total > MAX_ARTIFACT_BYTES {
            let why = format!(
                "the artifacts of task {} would have {total} bytes; a task may have {MAX_ARTIFACT_BYTES}",
                lease.task
            );
            return Err(StateError::TooLarge(why).into());
        }
        let sql = "INSERT INTO artifacts (task_key, name, media_type, size, digest, at) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (task_key, name) DO UPDATE \
             SET media_type = excluded.media_type, size = excluded.size, digest = excluded.digest, at = excluded.at";
        let insert = sqlx::query(sql).bind(owned.key).bind(name.as_str()).bind(media_type.as_str());
        tx.execute(insert.bind(*size as i64).bind(digest.as_slice()).bind(micros(*at))).await?;
        Ok(())
    }
}

/// Deletes tasks' files; their bytes go when nothing refers to them.
pub(crate) async fn forget(tx: &mut Tx<'_>, tasks: &[i64]) -> Written<()> {
    tx.execute(sqlx::query("DELETE FROM artifacts WHERE task_key = ANY($1)").bind(tasks)).await?;
    Ok(())
}

/// Lists a task's files by name.
pub(crate) async fn list(conn: &mut PgConnection, namespace: &Namespace, task: TaskId) -> Written<Vec<Artifact>> {
    let sql = "SELECT name, media_type, size, digest, at FROM artifacts \
         WHERE task_key = (SELECT key FROM tasks WHERE id = $1 AND namespace = $2) ORDER BY name";
    let found = sqlx::query(sql).bind(task.0).bind(namespace.as_str()).fetch_all(conn).await?;
    let mut artifacts = Vec::with_capacity(found.len());
    for row in found {
        let digest: &[u8] = row.try_get(3)?;
        let digest = digest.try_into().map_err(|_| corrupt("a digest", "its length is wrong"))?;
        let size = row.try_get::<i64, _>(2)? as u64;
        let at = timestamp(row.try_get(4)?)?;
        artifacts.push(Artifact { name: row.try_get(0)?, media_type: row.try_get(1)?, size, digest, at });
    }
    Ok(artifacts)
}

/// Tells which blobs a file refers to.
pub(crate) async fn referenced(conn: &mut PgConnection, digests: &[[u8; 32]]) -> Written<Vec<bool>> {
    let digests: Vec<&[u8]> = digests.iter().map(<[u8; 32]>::as_slice).collect();
    let sql = "SELECT EXISTS (SELECT 1 FROM artifacts WHERE artifacts.digest = wanted.digest) \
         FROM unnest($1::bytea[]) WITH ORDINALITY AS wanted (digest, place) ORDER BY place";
    Ok(sqlx::query_scalar(sql).bind(digests).fetch_all(conn).await?)
}
