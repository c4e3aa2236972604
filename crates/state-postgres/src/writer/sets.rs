//! The statements of a fast batch: each does one thing for all operations that need it.

use std::collections::{HashMap, HashSet};

use domain::{Failure, TaskId, TaskStatus, Usage};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use state::StateError;
use uuid::Uuid;

use crate::fault::Written;
use crate::ops::NewRow;
use crate::rows::{self, RawStep, TaskRow};
use state::codec::{Body, micros, mode_column, status_column, step_seq};

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

impl Owned {
    /// Reads the columns of `LOCK_FREE_TASKS`; what the steps tell is not known yet.
    fn new(row: &PgRow) -> Written<Self> {
        let terms: Option<&str> = row.try_get(32)?;
        let status: i64 = row.try_get(7)?;
        Ok(Self {
            key: row.try_get(0)?,
            epoch: rows::number(row, 10)?,
            running: status == status_column(TaskStatus::Running),
            losses: rows::number(row, 37)?,
            next_seq: 0,
            related: row.try_get::<Option<i64>, _>(30)?.is_some() || row.try_get::<Option<Uuid>, _>(20)?.is_some(),
            has_terms: terms.is_some(),
            has_accounts: terms.is_some_and(|terms| terms.contains("\"accounts\"")),
        })
    }
}

/// The tasks of a batch that nobody else has locked; now it has.
#[derive(Debug, Default)]
pub(super) struct Locked {
    /// Those that are to be claimed.
    pub(super) tasks: HashMap<TaskId, TaskRow>,
    /// Those that their holders write to.
    pub(super) owned: HashMap<TaskId, Owned>,
    /// The journals of those that are to be claimed, each in order.
    pub(super) journals: HashMap<i64, Vec<RawStep>>,
}

/// Locks tasks, and says of each what decides about a claim of it or a write to it.
pub(super) async fn lock(conn: &mut PgConnection, claimed: &[Uuid], written: &[Uuid]) -> Written<Locked> {
    let mut locked = Locked::default();
    if claimed.is_empty() && written.is_empty() {
        return Ok(locked);
    }
    let found = sqlx::query(rows::LOCK_FREE_TASKS).bind([claimed, written].concat()).fetch_all(&mut *conn).await?;
    let (mut journals, mut keys, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    let mut owners = HashMap::with_capacity(written.len());
    for row in &found {
        let id: Uuid = row.try_get(1)?;
        if claimed.contains(&id) {
            let task = rows::task(row)?;
            journals.push(task.key);
            locked.tasks.insert(task.task.id, task);
        } else {
            let owned = Owned::new(row)?;
            keys.push(owned.key);
            ids.push(id);
            owners.insert(owned.key, TaskId(id));
            locked.owned.insert(TaskId(id), owned);
        }
    }
    // A statement of its own: it must see all that was committed before the rows were locked.
    let sql = "SELECT place, epoch, at, enc, body, false, key FROM unnest($1::bigint[]) AS claimed (key), \
             LATERAL (SELECT * FROM steps WHERE place >= claimed.key << 20 AND place < (claimed.key + 1) << 20 \
             ORDER BY place) AS journal \
         UNION ALL \
         SELECT (SELECT max(place) FROM steps WHERE place >= row_key << 20 AND place < (row_key + 1) << 20), 0, 0, 0, NULL, \
             EXISTS (SELECT 1 FROM tasks WHERE parent = task AND parent IS NOT NULL AND status < 3), row_key \
             FROM unnest($2::bigint[], $3::uuid[]) AS written (row_key, task)";
    for row in sqlx::query(sql).bind(journals).bind(keys).bind(ids).fetch_all(conn).await? {
        let key: i64 = row.try_get(6)?;
        if let Some(owned) = owners.get(&key).and_then(|id| locked.owned.get_mut(id)) {
            owned.next_seq = row.try_get::<Option<i64>, _>(0)?.map_or(0, |place| step_seq(place) + 1);
            owned.related |= row.try_get::<bool, _>(5)?;
        } else {
            locked.journals.entry(key).or_default().push(rows::raw_step(&row)?);
        }
    }
    for journal in locked.journals.values_mut() {
        journal.sort_unstable_by_key(|step| step.place);
    }
    Ok(locked)
}

/// A task that ends.
#[derive(Debug)]
pub(super) struct Ending<'a> {
    pub(super) key: i64,
    pub(super) status: TaskStatus,
    pub(super) failure: Option<&'a Failure>,
    pub(super) usage: Usage,
    pub(super) at: i64,
    /// It has made a step, so its losses are forgotten.
    pub(super) forget: bool,
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

/// What a batch changes.
#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    /// New tasks, queued, each with its input as step 0.
    pub(super) new: Vec<&'a NewRow>,
    /// Leases to give: the row, the worker and the time of each.
    pub(super) leases: Vec<(i64, Uuid, i64)>,
    pub(super) steps: StepRows<'a>,
    /// Tasks that have made a step and go on: their losses are forgotten.
    pub(super) losses: Vec<i64>,
    pub(super) ends: Vec<Ending<'a>>,
}

/// All changes in one statement. No row is in two of its parts, as it takes one operation a task.
const WRITE: &str = "WITH \
     created AS (INSERT INTO tasks (status, id, namespace, idempotency_key, digest, agent, agent_version, mode, priority, \
         created_at, run_at, expires_at, deadline, announced_at, for_user, depth, metadata, trace, terms) \
         SELECT 0, * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::bigint[], \
         $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], \
         $14::text[], $15::bigint[], $16::text[], $17::text[], $18::text[]) \
         ON CONFLICT (id) DO NOTHING RETURNING id, key, created_at), \
     inputs AS (INSERT INTO steps (place, epoch, at, enc, body) \
         SELECT created.key << 20, 0, created.created_at, input.enc, input.body \
         FROM unnest($1::uuid[], $19::bigint[], $20::bytea[]) AS input (id, enc, body) JOIN created USING (id)), \
     claimed AS (UPDATE tasks SET status = 1, epoch = epoch + 1, worker = given.worker, \
         started_at = coalesce(started_at, given.at), announced_at = NULL, beat = 0 \
         FROM unnest($21::bigint[], $22::uuid[], $23::bigint[]) AS given (key, worker, at) WHERE tasks.key = given.key), \
     stepped AS (INSERT INTO steps (place, epoch, at, enc, body) \
         SELECT * FROM unnest($24::bigint[], $25::bigint[], $26::bigint[], $27::bigint[], $28::bytea[])), \
     forgiven AS (UPDATE tasks SET losses = 0 WHERE key = ANY($29::bigint[])), \
     finished AS (UPDATE tasks SET status = ended.status, finished_at = ended.at, failure = ended.failure, \
         input_tokens = ended.input, output_tokens = ended.output, usage_estimated = ended.estimated, \
         cached_input_tokens = ended.cached, cache_write_tokens = ended.written, reasoning_tokens = ended.reasoning, \
         cost = ended.cost, worker = NULL, announced_at = NULL, cancel_requested = false, \
         losses = CASE WHEN ended.forget THEN 0 ELSE losses END \
         FROM unnest($30::bigint[], $31::bigint[], $32::bigint[], $33::text[], $34::bigint[], $35::bigint[], \
         $36::boolean[], $37::bigint[], $38::bigint[], $39::bigint[], $40::bigint[], $41::boolean[]) \
         AS ended (key, status, at, failure, input, output, estimated, cached, written, reasoning, cost, forget) \
         WHERE tasks.key = ended.key) \
     SELECT id FROM created";

/// Changes the rows; returns the new tasks. One whose id is known is not among them.
pub(super) async fn write(conn: &mut PgConnection, changes: Changes<'_>) -> Written<HashSet<TaskId>> {
    let Changes { mut new, leases, steps, losses, ends } = changes;
    if new.is_empty() && leases.is_empty() && steps.places.is_empty() && losses.is_empty() && ends.is_empty() {
        return Ok(HashSet::new());
    }
    // Two processes that record the same tasks record them in the same order.
    new.sort_by_key(|row| row.task.id);
    let failures = ends.iter().map(|end| end.failure.map(serde_json::to_string).transpose());
    let failures = failures.collect::<Result<Vec<_>, _>>().map_err(|error| StateError::Corrupt(error.to_string()))?;
    let count = |of: fn(&Usage) -> u64| ends.iter().map(|end| of(&end.usage) as i64).collect::<Vec<_>>();
    macro_rules! column {
        ($rows:ident, $row:pat => $value:expr) => {
            $rows.iter().map(|$row| $value).collect::<Vec<_>>()
        };
    }
    let write = sqlx::query(WRITE)
        .bind(column!(new, row => row.task.id.0))
        .bind(column!(new, row => row.task.namespace.as_str()))
        .bind(column!(new, row => row.task.idempotency_key.as_deref()))
        .bind(column!(new, row => row.task.digest.to_vec()))
        .bind(column!(new, row => row.task.agent.as_str()))
        .bind(column!(new, row => i64::from(row.task.agent_version)))
        .bind(column!(new, row => mode_column(row.task.mode)))
        .bind(column!(new, row => i64::from(row.task.priority)))
        .bind(column!(new, row => micros(row.task.created_at)))
        .bind(column!(new, row => row.task.run_at.map(micros)))
        .bind(column!(new, row => row.task.expires_at.map(micros)))
        .bind(column!(new, row => row.task.deadline.map(micros)))
        .bind(column!(new, row => (!row.is_delayed()).then(|| micros(row.task.created_at))))
        .bind(column!(new, row => row.task.user.as_deref()))
        .bind(column!(new, row => i64::from(row.task.depth)))
        .bind(column!(new, row => row.metadata.as_deref()))
        .bind(column!(new, row => row.task.trace.as_deref()))
        .bind(column!(new, row => row.terms.as_deref()))
        .bind(column!(new, row => row.input.enc))
        .bind(column!(new, row => row.input.bytes.as_slice()))
        .bind(column!(leases, (key, ..) => *key))
        .bind(column!(leases, (_, worker, _) => *worker))
        .bind(column!(leases, (.., at) => *at))
        .bind(steps.places)
        .bind(steps.epochs)
        .bind(steps.times)
        .bind(steps.encodings)
        .bind(steps.bodies)
        .bind(losses)
        .bind(column!(ends, end => end.key))
        .bind(column!(ends, end => status_column(end.status)))
        .bind(column!(ends, end => end.at))
        .bind(failures)
        .bind(count(|usage| usage.input_tokens))
        .bind(count(|usage| usage.output_tokens))
        .bind(column!(ends, end => end.usage.estimated))
        .bind(count(|usage| usage.cached_input_tokens))
        .bind(count(|usage| usage.cache_write_tokens))
        .bind(count(|usage| usage.reasoning_tokens))
        .bind(count(|usage| usage.cost.0))
        .bind(column!(ends, end => end.forget));
    let created = write.fetch_all(conn).await?;
    Ok(created.iter().map(|row| row.try_get(0).map(TaskId)).collect::<Result<_, _>>()?)
}
