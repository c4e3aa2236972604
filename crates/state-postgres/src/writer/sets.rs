//! The statements of a fast batch: each does one thing for all operations that need it.

use std::collections::HashMap;

use domain::{Failure, TaskId, TaskStatus, Usage};
use sqlx::{PgConnection, Row as _};
use state::StateError;
use uuid::Uuid;

use crate::fault::Written;
use crate::ops::NewRow;
use crate::rows::{self, RawStep, TaskRow};
use state::codec::{Body, micros, mode_column, status_column, step_seq, task_of_place};

/// Rows of `steps`, column by column.
#[derive(Debug, Default)]
pub(super) struct StepRows<'a> {
    places: Vec<i64>,
    epochs: Vec<i64>,
    times: Vec<i64>,
    encodings: Vec<i64>,
    bodies: Vec<&'a [u8]>,
}

impl<'a> StepRows<'a> {
    pub(super) fn push(&mut self, place: i64, epoch: u32, at: i64, body: &'a Body) {
        self.places.push(place);
        self.epochs.push(i64::from(epoch));
        self.times.push(at);
        self.encodings.push(body.enc);
        self.bodies.push(&body.bytes);
    }

    /// Appends them all.
    pub(super) async fn insert(self, conn: &mut PgConnection) -> Written<()> {
        if self.places.is_empty() {
            return Ok(());
        }
        let sql = "INSERT INTO steps (place, epoch, at, enc, body) \
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[])";
        let insert = sqlx::query(sql).bind(self.places).bind(self.epochs).bind(self.times).bind(self.encodings);
        insert.bind(self.bodies).execute(conn).await?;
        Ok(())
    }
}

/// A task that a writer holds, with what decides whether its write is plain. Its row is locked.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a column of its own")]
pub(super) struct Owned {
    pub(super) key: i64,
    pub(super) epoch: u32,
    pub(super) running: bool,
    pub(super) losses: u32,
    pub(super) next_seq: u32,
    /// Others hear of its end.
    pub(super) related: bool,
    pub(super) has_terms: bool,
    /// It may have accounts that its calls are paid from.
    pub(super) has_accounts: bool,
}

/// Locks whole tasks that nobody else has locked.
pub(super) async fn lock_tasks(conn: &mut PgConnection, ids: Vec<Uuid>) -> Written<HashMap<TaskId, TaskRow>> {
    let mut tasks = HashMap::with_capacity(ids.len());
    if ids.is_empty() {
        return Ok(tasks);
    }
    for row in sqlx::query(rows::LOCK_FREE_TASKS).bind(ids).fetch_all(conn).await? {
        let task = rows::task(&row)?;
        tasks.insert(task.task.id, task);
    }
    Ok(tasks)
}

/// Locks tasks that nobody else has locked, and says what decides about a write to them.
pub(super) async fn lock_owned(conn: &mut PgConnection, ids: Vec<Uuid>) -> Written<HashMap<TaskId, Owned>> {
    let mut owned = HashMap::with_capacity(ids.len());
    if ids.is_empty() {
        return Ok(owned);
    }
    let sql = "SELECT key, id, epoch, status = 1, losses, thread_key IS NOT NULL OR parent IS NOT NULL, \
         terms IS NOT NULL, coalesce(position('\"accounts\"' IN terms) > 0, false) \
         FROM tasks WHERE id = ANY($1) ORDER BY key FOR NO KEY UPDATE SKIP LOCKED";
    let locked = sqlx::query(sql).bind(ids).fetch_all(&mut *conn).await?;
    let keys = locked.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    let ids = locked.iter().map(|row| row.try_get(1)).collect::<Result<Vec<Uuid>, _>>()?;
    // A statement of its own: it must see all that was committed before the rows were locked.
    let sql = "SELECT (SELECT max(place) FROM steps WHERE place >= row_key << 20 AND place < (row_key + 1) << 20), \
         EXISTS (SELECT 1 FROM tasks WHERE parent = task AND parent IS NOT NULL AND status < 3) \
         FROM unnest($1::bigint[], $2::uuid[]) WITH ORDINALITY AS locked (row_key, task, position) ORDER BY position";
    let facts = sqlx::query(sql).bind(keys).bind(ids).fetch_all(conn).await?;
    for (row, facts) in locked.iter().zip(&facts) {
        let last: Option<i64> = facts.try_get(0)?;
        let has_relatives: bool = row.try_get(5)?;
        owned.insert(
            TaskId(row.try_get(1)?),
            Owned {
                key: row.try_get(0)?,
                epoch: rows::number(row, 2)?,
                running: row.try_get(3)?,
                losses: rows::number(row, 4)?,
                next_seq: last.map_or(0, |place| step_seq(place) + 1),
                related: has_relatives || facts.try_get(1)?,
                has_terms: row.try_get(6)?,
                has_accounts: row.try_get(7)?,
            },
        );
    }
    Ok(owned)
}

/// Reads the journals of tasks, each in order.
pub(super) async fn journals(conn: &mut PgConnection, keys: &[i64]) -> Written<HashMap<i64, Vec<RawStep>>> {
    let mut journals: HashMap<i64, Vec<RawStep>> = HashMap::with_capacity(keys.len());
    if keys.is_empty() {
        return Ok(journals);
    }
    let sql = "SELECT place, epoch, at, enc, body FROM unnest($1::bigint[]) AS claimed (key), \
         LATERAL (SELECT * FROM steps WHERE place >= claimed.key << 20 AND place < (claimed.key + 1) << 20 \
         ORDER BY place) AS journal";
    for row in sqlx::query(sql).bind(keys).fetch_all(conn).await? {
        let step = rows::raw_step(&row)?;
        journals.entry(task_of_place(step.place)).or_default().push(step);
    }
    Ok(journals)
}

/// Gives leases: the worker and the time of each.
pub(super) async fn give_leases(conn: &mut PgConnection, leases: Vec<(i64, Uuid, i64)>) -> Written<()> {
    if leases.is_empty() {
        return Ok(());
    }
    let (mut keys, mut workers, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for (key, worker, at) in leases {
        keys.push(key);
        workers.push(worker);
        times.push(at);
    }
    let sql = "UPDATE tasks SET status = 1, epoch = epoch + 1, worker = given.worker, \
         started_at = coalesce(started_at, given.at), announced_at = NULL, beat = 0 \
         FROM unnest($1::bigint[], $2::uuid[], $3::bigint[]) AS given (key, worker, at) WHERE tasks.key = given.key";
    sqlx::query(sql).bind(keys).bind(workers).bind(times).execute(conn).await?;
    Ok(())
}

/// A task that ends.
#[derive(Debug)]
pub(super) struct Ending<'a> {
    pub(super) key: i64,
    pub(super) status: TaskStatus,
    pub(super) failure: Option<&'a Failure>,
    pub(super) usage: Usage,
    pub(super) at: i64,
}

/// Writes how tasks ended.
pub(super) async fn write_ends(conn: &mut PgConnection, ends: &[Ending<'_>]) -> Written<()> {
    if ends.is_empty() {
        return Ok(());
    }
    let failures = ends.iter().map(|end| end.failure.map(serde_json::to_string).transpose());
    let failures = failures.collect::<Result<Vec<_>, _>>().map_err(|error| StateError::Corrupt(error.to_string()))?;
    let count = |of: fn(&Usage) -> u64| ends.iter().map(|end| of(&end.usage) as i64).collect::<Vec<_>>();
    let sql = "UPDATE tasks SET status = ended.status, finished_at = ended.at, failure = ended.failure, \
         input_tokens = ended.input, output_tokens = ended.output, usage_estimated = ended.estimated, \
         cached_input_tokens = ended.cached, cache_write_tokens = ended.written, reasoning_tokens = ended.reasoning, \
         cost = ended.cost, worker = NULL, announced_at = NULL, cancel_requested = false \
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::boolean[], \
         $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[]) AS ended (key, status, at, failure, input, output, \
         estimated, cached, written, reasoning, cost) WHERE tasks.key = ended.key";
    let update = sqlx::query(sql)
        .bind(ends.iter().map(|end| end.key).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| status_column(end.status)).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| end.at).collect::<Vec<_>>())
        .bind(failures)
        .bind(count(|usage| usage.input_tokens))
        .bind(count(|usage| usage.output_tokens))
        .bind(ends.iter().map(|end| end.usage.estimated).collect::<Vec<_>>())
        .bind(count(|usage| usage.cached_input_tokens))
        .bind(count(|usage| usage.cache_write_tokens))
        .bind(count(|usage| usage.reasoning_tokens))
        .bind(count(|usage| usage.cost.0));
    update.execute(conn).await?;
    Ok(())
}

/// Forgets the losses of tasks that have made a step.
pub(super) async fn forget_losses(conn: &mut PgConnection, keys: Vec<i64>) -> Written<()> {
    if !keys.is_empty() {
        sqlx::query("UPDATE tasks SET losses = 0 WHERE key = ANY($1)").bind(keys).execute(conn).await?;
    }
    Ok(())
}

/// Takes the idempotency keys of new tasks; returns the tasks whose key somebody had already.
pub(super) async fn take_keys(conn: &mut PgConnection, new: &[&NewRow]) -> Written<Vec<TaskId>> {
    let mut keyed: Vec<_> = new.iter().filter(|row| row.task.idempotency_key.is_some()).map(|row| &row.task).collect();
    if keyed.is_empty() {
        return Ok(Vec::new());
    }
    // Two processes that take the same keys take them in the same order.
    keyed.sort_by_key(|task| (&task.namespace, &task.idempotency_key));
    let sql = "INSERT INTO idempotency (namespace, key, task, digest, created_at) \
         SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[], $4::bytea[], $5::bigint[]) \
         ON CONFLICT (namespace, key) DO NOTHING RETURNING task";
    let insert = sqlx::query(sql)
        .bind(keyed.iter().map(|task| task.namespace.as_str()).collect::<Vec<_>>())
        .bind(keyed.iter().map(|task| task.idempotency_key.as_deref()).collect::<Vec<_>>())
        .bind(keyed.iter().map(|task| task.id.0).collect::<Vec<_>>())
        .bind(keyed.iter().map(|task| task.digest.to_vec()).collect::<Vec<_>>())
        .bind(keyed.iter().map(|task| micros(task.created_at)).collect::<Vec<_>>());
    let taken = insert.fetch_all(conn).await?;
    let taken = taken.iter().map(|row| row.try_get(0).map(TaskId)).collect::<Result<Vec<_>, _>>()?;
    Ok(keyed.iter().map(|task| task.id).filter(|id| !taken.contains(id)).collect())
}

/// Gives back the key of a task whose id turned out to be known.
pub(super) async fn give_back_key(conn: &mut PgConnection, row: &NewRow) -> Written<()> {
    if let Some(key) = &row.task.idempotency_key {
        let sql = "DELETE FROM idempotency WHERE namespace = $1 AND key = $2";
        sqlx::query(sql).bind(row.task.namespace.as_str()).bind(key).execute(conn).await?;
    }
    Ok(())
}

/// Records new tasks as queued; returns their rows. One whose id is known is not among them.
pub(super) async fn insert_tasks(conn: &mut PgConnection, mut new: Vec<&NewRow>) -> Written<HashMap<TaskId, i64>> {
    if new.is_empty() {
        return Ok(HashMap::new());
    }
    new.sort_by_key(|row| row.task.id);
    macro_rules! column {
        ($row:ident => $value:expr) => {
            new.iter().map(|$row| $value).collect::<Vec<_>>()
        };
    }
    let sql = "INSERT INTO tasks (status, id, namespace, idempotency_key, digest, agent, agent_version, mode, priority, \
         created_at, run_at, expires_at, deadline, announced_at, for_user, depth, metadata, trace, terms) \
         SELECT 0, * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::bigint[], \
         $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], \
         $14::text[], $15::bigint[], $16::text[], $17::text[], $18::text[]) ON CONFLICT (id) DO NOTHING RETURNING id, key";
    let insert = sqlx::query(sql)
        .bind(column!(row => row.task.id.0))
        .bind(column!(row => row.task.namespace.as_str()))
        .bind(column!(row => row.task.idempotency_key.as_deref()))
        .bind(column!(row => row.task.digest.to_vec()))
        .bind(column!(row => row.task.agent.as_str()))
        .bind(column!(row => i64::from(row.task.agent_version)))
        .bind(column!(row => mode_column(row.task.mode)))
        .bind(column!(row => i64::from(row.task.priority)))
        .bind(column!(row => micros(row.task.created_at)))
        .bind(column!(row => row.task.run_at.map(micros)))
        .bind(column!(row => row.task.expires_at.map(micros)))
        .bind(column!(row => row.task.deadline.map(micros)))
        .bind(column!(row => (!row.is_delayed()).then(|| micros(row.task.created_at))))
        .bind(column!(row => row.task.user.as_deref()))
        .bind(column!(row => i64::from(row.task.depth)))
        .bind(column!(row => row.metadata.as_deref()))
        .bind(column!(row => row.task.trace.as_deref()))
        .bind(column!(row => row.terms.as_deref()));
    let inserted = insert.fetch_all(conn).await?;
    inserted.iter().map(|row| Ok((TaskId(row.try_get(0)?), row.try_get(1)?))).collect()
}
