//! Rows as domain types. Columns are listed once, next to what reads them; what does not fit the domain is an error.

use domain::{AgentName, Namespace, ParentRef, ReadyTask, Step, Task, TaskId, TaskStatus, ThreadId, Usage, WorkerId};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use state::{StateError, StateValue};
use uuid::Uuid;

use crate::fault::Written;
use state::codec::{self, Body, corrupt, timestamp};

macro_rules! task_columns {
    () => {
        "key, id, namespace, idempotency_key, agent, agent_version, mode, status, priority, attempt, epoch, worker, \
         created_at, run_at, expires_at, deadline, started_at, finished_at, thread, for_user, parent, parent_call, \
         depth, metadata, cancel_requested, failure, input_tokens, output_tokens, usage_estimated, trace, thread_key, \
         thread_seen, terms, cached_input_tokens, cache_write_tokens, reasoning_tokens, cost"
    };
}

// Terms that say "gates" or "accounts" somewhere else only make the way longer.
macro_rules! head_columns {
    () => {
        "key, id, status, mode, priority, epoch, attempt, losses, cancel_requested, run_at, thread_key, parent, \
         parent_call, told, worker, failure, coalesce(position('\"gates\"' IN terms) > 0, false), \
         coalesce(position('\"accounts\"' IN terms) > 0, false)"
    };
}

/// The columns that `task` reads.
pub(crate) const TASK: &str = task_columns!();
/// Finds tasks by their ids.
pub(crate) const FIND_TASKS: &str = concat!("SELECT ", task_columns!(), " FROM tasks WHERE id = ANY($1)");
/// Finds the last step of each journal.
pub(crate) const LAST_STEPS: &str = "SELECT step.* FROM unnest($1::bigint[]) AS asked (key), \
     LATERAL (SELECT place, epoch, at, enc, body FROM steps WHERE place >= asked.key << 20 \
     AND place < (asked.key + 1) << 20 ORDER BY place DESC LIMIT 1) AS step";
/// Finds a task by its id and keeps others from changing it.
pub(crate) const LOCK_TASK: &str = concat!("SELECT ", task_columns!(), " FROM tasks WHERE id = $1 FOR UPDATE");
/// Finds tasks by their ids, those that nobody else keeps from being changed, and does so itself; behind their columns
/// stands how often their workers were lost.
pub(crate) const LOCK_FREE_TASKS: &str = concat!(
    "SELECT ",
    task_columns!(),
    ", losses FROM tasks WHERE id = ANY($1) ORDER BY key FOR NO KEY UPDATE SKIP LOCKED"
);
/// Finds a head by its task's id and keeps others from changing it.
pub(crate) const HEAD_BY_ID: &str = concat!("SELECT ", head_columns!(), " FROM tasks WHERE id = $1 FOR UPDATE");
/// Finds a head by its task's row and keeps others from changing it.
pub(crate) const HEAD_BY_KEY: &str = concat!("SELECT ", head_columns!(), " FROM tasks WHERE key = $1 FOR UPDATE");
/// Finds the heads of rows, in their order, and keeps others from changing them.
pub(crate) const HEADS: &str =
    concat!("SELECT ", head_columns!(), " FROM tasks WHERE key = ANY($1) ORDER BY key FOR UPDATE");
/// Finds a head by its task's id and namespace and keeps others from changing it.
pub(crate) const HEAD_IN_NAMESPACE: &str =
    concat!("SELECT ", head_columns!(), " FROM tasks WHERE id = $1 AND namespace = $2 FOR UPDATE");
/// Lists the steps of a range of places, in order.
pub(crate) const JOURNAL: &str =
    "SELECT place, epoch, at, enc, body FROM steps WHERE place >= $1 AND place < $2 ORDER BY place";

/// A task and what only the store knows of it.
#[derive(Debug)]
pub(crate) struct TaskRow {
    pub(crate) key: i64,
    pub(crate) task: Task,
    pub(crate) thread_key: Option<i64>,
    pub(crate) thread_seen: Option<i64>,
}

/// Reads the columns of `TASK`.
pub(crate) fn task(row: &PgRow) -> Written<TaskRow> {
    let parent = row.try_get::<Option<Uuid>, _>(20)?.map(TaskId);
    let parent = match (parent, row.try_get::<Option<String>, _>(21)?) {
        (Some(task), Some(call_id)) => Some(ParentRef { task, call_id }),
        _ => None,
    };
    let task = Task {
        id: TaskId(row.try_get(1)?),
        namespace: namespace(row, 2)?,
        idempotency_key: row.try_get(3)?,
        agent: agent(row, 4)?,
        agent_version: number(row, 5)?,
        mode: codec::mode(row.try_get(6)?)?,
        status: codec::status(row.try_get(7)?)?,
        priority: number(row, 8)?,
        attempt: number(row, 9)?,
        epoch: number(row, 10)?,
        worker: row.try_get::<Option<Uuid>, _>(11)?.map(WorkerId),
        created_at: timestamp(row.try_get(12)?)?,
        run_at: time_or_none(row, 13)?,
        expires_at: time_or_none(row, 14)?,
        deadline: time_or_none(row, 15)?,
        started_at: time_or_none(row, 16)?,
        finished_at: time_or_none(row, 17)?,
        thread: row.try_get::<Option<Uuid>, _>(18)?.map(ThreadId),
        user: row.try_get(19)?,
        parent,
        depth: number(row, 22)?,
        metadata: json_or_none(row, 23, "metadata")?.unwrap_or_default(),
        cancel_requested: row.try_get(24)?,
        failure: json_or_none(row, 25, "a failure")?,
        usage: usage(row, [26, 27, 33, 34, 35, 36, 28])?,
        trace: row.try_get(29)?,
        terms: json_or_none(row, 32, "terms")?.unwrap_or_default(),
    };
    Ok(TaskRow { key: row.try_get(0)?, task, thread_key: row.try_get(30)?, thread_seen: row.try_get(31)? })
}

/// The columns that `usage` reads.
pub(crate) const USAGE: &str = "SELECT input_tokens, output_tokens, cached_input_tokens, cache_write_tokens, \
     reasoning_tokens, cost, usage_estimated FROM tasks WHERE key = $1";

/// Reads what was used from columns at these places, in the order of `USAGE`.
pub(crate) fn usage(row: &PgRow, at: [usize; 7]) -> Written<Usage> {
    let count = |at: usize| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(at)? as u64);
    Ok(Usage {
        input_tokens: count(at[0])?,
        output_tokens: count(at[1])?,
        cached_input_tokens: count(at[2])?,
        cache_write_tokens: count(at[3])?,
        reasoning_tokens: count(at[4])?,
        cost: domain::Usd(count(at[5])?),
        estimated: row.try_get(at[6])?,
    })
}

/// What decides a task's next change of status.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a column of its own")]
pub(crate) struct Head {
    pub(crate) key: i64,
    pub(crate) id: TaskId,
    pub(crate) status: TaskStatus,
    pub(crate) mode: domain::ExecutionMode,
    pub(crate) priority: u8,
    pub(crate) epoch: u32,
    pub(crate) attempt: u32,
    pub(crate) losses: u32,
    pub(crate) cancel: bool,
    pub(crate) run_at: Option<i64>,
    pub(crate) thread_key: Option<i64>,
    pub(crate) parent: Option<ParentRef>,
    pub(crate) told: bool,
    pub(crate) worker: Option<WorkerId>,
    pub(crate) failure: Option<domain::Failure>,
    /// It may have gates.
    pub(crate) has_gates: bool,
    /// It may have accounts that its calls are paid from.
    pub(crate) has_accounts: bool,
}

impl Head {
    /// The hint that a worker may claim it.
    pub(crate) fn ready(&self) -> ReadyTask {
        ReadyTask { task: self.id, mode: self.mode, priority: self.priority }
    }
}

/// Reads the columns of a head.
pub(crate) fn head(row: &PgRow) -> Written<Head> {
    let parent = match row.try_get::<Option<Uuid>, _>(11)?.map(TaskId) {
        Some(task) => Some(ParentRef { task, call_id: row.try_get(12)? }),
        None => None,
    };
    Ok(Head {
        key: row.try_get(0)?,
        id: TaskId(row.try_get(1)?),
        status: codec::status(row.try_get(2)?)?,
        mode: codec::mode(row.try_get(3)?)?,
        priority: number(row, 4)?,
        epoch: number(row, 5)?,
        attempt: number(row, 6)?,
        losses: number(row, 7)?,
        cancel: row.try_get(8)?,
        run_at: row.try_get(9)?,
        thread_key: row.try_get(10)?,
        parent,
        told: row.try_get(13)?,
        worker: row.try_get::<Option<Uuid>, _>(14)?.map(WorkerId),
        failure: json_or_none(row, 15, "a failure")?,
        has_gates: row.try_get(16)?,
        has_accounts: row.try_get(17)?,
    })
}

/// A step that is not decoded yet: the writer copies it, whoever asked decodes it.
#[derive(Debug, Clone)]
pub(crate) struct RawStep {
    pub(crate) place: i64,
    epoch: u32,
    at: i64,
    pub(crate) body: Body,
}

/// Reads a row of `JOURNAL`.
pub(crate) fn raw_step(row: &PgRow) -> Written<RawStep> {
    Ok(RawStep { place: row.try_get(0)?, epoch: number(row, 1)?, at: row.try_get(2)?, body: body(row, 3)? })
}

impl RawStep {
    /// Decodes it.
    pub(crate) fn decode(&self) -> Result<Step, StateError> {
        Ok(Step {
            seq: codec::step_seq(self.place),
            epoch: self.epoch,
            at: timestamp(self.at)?,
            body: self.body.decode("a step")?,
        })
    }
}

/// Lists the latest messages of a range of keys, the last first.
pub(crate) const MESSAGES_BACKWARD: &str = "SELECT key, task, role, at, enc, body FROM thread_messages \
     WHERE key BETWEEN $1 AND $2 ORDER BY key DESC LIMIT $3";
/// Lists the first messages of a range of keys.
pub(crate) const MESSAGES: &str = "SELECT key, task, role, at, enc, body FROM thread_messages \
     WHERE key BETWEEN $1 AND $2 ORDER BY key LIMIT $3";

/// A thread's message that is not decoded yet.
#[derive(Debug, Clone)]
pub(crate) struct RawMessage {
    key: i64,
    task: TaskId,
    role: String,
    at: i64,
    body: Body,
}

/// Reads a row of `MESSAGES`.
pub(crate) fn raw_message(row: &PgRow) -> Written<RawMessage> {
    Ok(RawMessage {
        key: row.try_get(0)?,
        task: TaskId(row.try_get(1)?),
        role: row.try_get(2)?,
        at: row.try_get(3)?,
        body: body(row, 4)?,
    })
}

impl RawMessage {
    /// Decodes it.
    pub(crate) fn decode(self) -> Result<domain::ThreadMessage, StateError> {
        Ok(domain::ThreadMessage {
            seq: codec::message_seq(self.key),
            task: self.task,
            role: self.role,
            text: self.body.decode("a message")?,
            at: timestamp(self.at)?,
        })
    }
}

/// Finds a value that has not expired.
pub(crate) const FIND_VALUE: &str = "SELECT key, version, updated_at, expires_at, enc, body FROM state_values \
     WHERE namespace = $1 AND scope = $2 AND key = $3 AND (expires_at IS NULL OR expires_at > $4)";
/// Lists a scope's values that have not expired, after a key; every key is after the empty one or is it.
pub(crate) const LIST_VALUES: &str = "SELECT key, version, updated_at, expires_at, enc, body FROM state_values \
     WHERE namespace = $1 AND scope = $2 AND (expires_at IS NULL OR expires_at > $3) AND key >= coalesce($4, '') \
     AND ($4 IS NULL OR key > $4) ORDER BY key LIMIT $5";

/// Reads a row of `FIND_VALUE` or `LIST_VALUES`.
pub(crate) fn value(row: &PgRow) -> Written<StateValue> {
    Ok(StateValue {
        key: row.try_get(0)?,
        version: row.try_get::<i64, _>(1)? as u64,
        updated_at: timestamp(row.try_get(2)?)?,
        expires_at: time_or_none(row, 3)?,
        value: body(row, 4)?.decode("a value")?,
    })
}

/// Reads an encoding and the body after it.
pub(crate) fn body(row: &PgRow, at: usize) -> Written<Body> {
    Ok(Body { enc: row.try_get(at)?, bytes: row.try_get(at + 1)? })
}

/// Reads a number that the domain keeps in fewer bits than a column has.
pub(crate) fn number<T: TryFrom<i64>>(row: &PgRow, at: usize) -> Written<T> {
    let wide: i64 = row.try_get(at)?;
    Ok(T::try_from(wide).map_err(|_| corrupt("a number", wide))?)
}

/// Reads a namespace.
pub(crate) fn namespace(row: &PgRow, at: usize) -> Written<Namespace> {
    Ok(Namespace::new(row.try_get::<String, _>(at)?).map_err(|error| corrupt("a namespace", error))?)
}

/// Reads an agent's name.
pub(crate) fn agent(row: &PgRow, at: usize) -> Written<AgentName> {
    Ok(AgentName::new(row.try_get::<String, _>(at)?).map_err(|error| corrupt("an agent's name", error))?)
}

fn time_or_none(row: &PgRow, at: usize) -> Written<Option<domain::Timestamp>> {
    Ok(row.try_get::<Option<i64>, _>(at)?.map(timestamp).transpose()?)
}

/// Reads JSON that may be absent; `what` names it in errors.
pub(crate) fn json_or_none<T: serde::de::DeserializeOwned>(row: &PgRow, at: usize, what: &str) -> Written<Option<T>> {
    let Some(json) = row.try_get::<Option<&str>, _>(at)? else { return Ok(None) };
    Ok(Some(serde_json::from_str(json).map_err(|error| corrupt(what, error))?))
}
