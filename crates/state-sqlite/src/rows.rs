//! Rows as domain types. Columns are listed once, next to what reads them.

use domain::{AgentName, Namespace, ParentRef, ReadyTask, Step, Task, TaskId, TaskStatus, ThreadId, Usage, WorkerId};
use rusqlite::Row;
use rusqlite::types::ValueRef;
use state::{StateError, StateValue};
use uuid::Uuid;

use crate::fault::{Fault, Written};
use state::codec::{self, Body, corrupt, timestamp};

macro_rules! task_columns {
    () => {
        "key, id, namespace, idempotency_key, agent, agent_version, mode, status, priority, attempt, epoch, worker, \
         created_at, run_at, expires_at, deadline, started_at, finished_at, thread, for_user, parent, parent_call, \
         depth, metadata, cancel_requested, failure, input_tokens, output_tokens, usage_estimated, trace, thread_key, \
         thread_seen, losses, terms, cached_input_tokens, cache_write_tokens, reasoning_tokens, cost"
    };
}

macro_rules! head_columns {
    () => {
        "key, id, status, mode, priority, epoch, attempt, losses, cancel_requested, run_at, thread_key, parent, \
         parent_call, told, worker, failure, terms IS NOT NULL"
    };
}

/// The columns that `task` reads.
pub(crate) const TASK: &str = task_columns!();
/// Finds a task by its id.
pub(crate) const FIND_TASK: &str = concat!("SELECT ", task_columns!(), " FROM tasks WHERE id = ?1");
/// Finds a head by its task's id.
pub(crate) const HEAD_BY_ID: &str = concat!("SELECT ", head_columns!(), " FROM tasks WHERE id = ?1");
/// Finds a head by its task's row.
pub(crate) const HEAD_BY_KEY: &str = concat!("SELECT ", head_columns!(), " FROM tasks WHERE key = ?1");
/// Finds a head by its task's id and namespace.
pub(crate) const HEAD_IN_NAMESPACE: &str =
    concat!("SELECT ", head_columns!(), " FROM tasks WHERE id = ?1 AND namespace = ?2");
/// Lists the steps of a range of places, in order.
pub(crate) const JOURNAL: &str =
    "SELECT place, epoch, at, enc, body FROM steps WHERE place >= ?1 AND place < ?2 ORDER BY place";
/// Lists the steps of a range of places, the last first.
pub(crate) const JOURNAL_BACKWARD: &str =
    "SELECT place, epoch, at, enc, body FROM steps WHERE place >= ?1 AND place < ?2 ORDER BY place DESC";

/// A task and what only the store knows of it.
#[derive(Debug)]
pub(crate) struct TaskRow {
    pub(crate) key: i64,
    pub(crate) task: Task,
    pub(crate) thread_key: Option<i64>,
    pub(crate) thread_seen: Option<i64>,
    pub(crate) losses: u32,
}

/// Reads the columns of `TASK`.
pub(crate) fn task(row: &Row<'_>) -> Written<TaskRow> {
    let parent = uuid_or_none(row, 20)?.map(TaskId);
    let parent = match (parent, row.get::<_, Option<String>>(21)?) {
        (Some(task), Some(call_id)) => Some(ParentRef { task, call_id }),
        _ => None,
    };
    let task = Task {
        id: TaskId(uuid(row, 1)?),
        namespace: namespace(row, 2)?,
        idempotency_key: row.get(3)?,
        agent: agent(row, 4)?,
        agent_version: row.get(5)?,
        mode: codec::mode(row.get(6)?)?,
        status: codec::status(row.get(7)?)?,
        priority: row.get(8)?,
        attempt: row.get(9)?,
        epoch: row.get(10)?,
        worker: uuid_or_none(row, 11)?.map(WorkerId),
        created_at: timestamp(row.get(12)?)?,
        run_at: time_or_none(row, 13)?,
        expires_at: time_or_none(row, 14)?,
        deadline: time_or_none(row, 15)?,
        started_at: time_or_none(row, 16)?,
        finished_at: time_or_none(row, 17)?,
        thread: uuid_or_none(row, 18)?.map(ThreadId),
        user: row.get(19)?,
        parent,
        depth: row.get(22)?,
        metadata: json_or_none(row, 23, "metadata")?.unwrap_or_default(),
        cancel_requested: row.get(24)?,
        failure: json_or_none(row, 25, "a failure")?,
        usage: usage(row, [26, 27, 34, 35, 36, 37, 28])?,
        trace: row.get(29)?,
        terms: json_or_none(row, 33, "terms")?.unwrap_or_default(),
    };
    Ok(TaskRow { key: row.get(0)?, task, thread_key: row.get(30)?, thread_seen: row.get(31)?, losses: row.get(32)? })
}

/// The columns that `usage` reads.
pub(crate) const USAGE: &str = "SELECT input_tokens, output_tokens, cached_input_tokens, cache_write_tokens, \
     reasoning_tokens, cost, usage_estimated FROM tasks WHERE key = ?1";

/// Reads what was used from columns at these places, in the order of `USAGE`.
pub(crate) fn usage(row: &Row<'_>, at: [usize; 7]) -> rusqlite::Result<Usage> {
    let count = |at: usize| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)? as u64);
    Ok(Usage {
        input_tokens: count(at[0])?,
        output_tokens: count(at[1])?,
        cached_input_tokens: count(at[2])?,
        cache_write_tokens: count(at[3])?,
        reasoning_tokens: count(at[4])?,
        cost: domain::Usd(count(at[5])?),
        estimated: row.get(at[6])?,
    })
}

/// What decides a task's next change of status.
#[derive(Debug)]
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
    /// It has limits or accounts.
    pub(crate) has_terms: bool,
}

impl Head {
    /// The hint that a worker may claim it.
    pub(crate) fn ready(&self) -> ReadyTask {
        ReadyTask { task: self.id, mode: self.mode, priority: self.priority }
    }
}

/// Reads the columns of a head.
pub(crate) fn head(row: &Row<'_>) -> Written<Head> {
    let parent = match uuid_or_none(row, 11)?.map(TaskId) {
        Some(task) => Some(ParentRef { task, call_id: text(row, 12)? }),
        None => None,
    };
    Ok(Head {
        key: row.get(0)?,
        id: TaskId(uuid(row, 1)?),
        status: codec::status(row.get(2)?)?,
        mode: codec::mode(row.get(3)?)?,
        priority: row.get(4)?,
        epoch: row.get(5)?,
        attempt: row.get(6)?,
        losses: row.get(7)?,
        cancel: row.get(8)?,
        run_at: row.get(9)?,
        thread_key: row.get(10)?,
        parent,
        told: row.get(13)?,
        worker: uuid_or_none(row, 14)?.map(WorkerId),
        failure: json_or_none(row, 15, "a failure")?,
        has_terms: row.get(16)?,
    })
}

/// A step that is not decoded yet: the writer copies it, whoever asked decodes it.
#[derive(Debug)]
pub(crate) struct RawStep {
    pub(crate) place: i64,
    epoch: u32,
    at: i64,
    pub(crate) body: Body,
}

/// Reads a row of `JOURNAL`.
pub(crate) fn raw_step(row: &Row<'_>) -> Written<RawStep> {
    Ok(RawStep { place: row.get(0)?, epoch: row.get(1)?, at: row.get(2)?, body: body(row, 3)? })
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
     WHERE key BETWEEN ?1 AND ?2 ORDER BY key DESC LIMIT ?3";
/// Lists the first messages of a range of keys.
pub(crate) const MESSAGES: &str = "SELECT key, task, role, at, enc, body FROM thread_messages \
     WHERE key BETWEEN ?1 AND ?2 ORDER BY key LIMIT ?3";

/// A thread's message that is not decoded yet.
#[derive(Debug)]
pub(crate) struct RawMessage {
    key: i64,
    task: TaskId,
    role: String,
    at: i64,
    body: Body,
}

/// Reads a row of `MESSAGES`.
pub(crate) fn raw_message(row: &Row<'_>) -> Written<RawMessage> {
    Ok(RawMessage {
        key: row.get(0)?,
        task: TaskId(uuid(row, 1)?),
        role: text(row, 2)?,
        at: row.get(3)?,
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
     WHERE namespace = ?1 AND scope = ?2 AND key = ?3 AND (expires_at IS NULL OR expires_at > ?4)";
/// Lists a scope's values that have not expired, after a key if given.
pub(crate) const LIST_VALUES: &str = "SELECT key, version, updated_at, expires_at, enc, body FROM state_values \
     WHERE namespace = ?1 AND scope = ?2 AND (expires_at IS NULL OR expires_at > ?3) AND key >= coalesce(?4, '') \
     AND (?4 IS NULL OR key > ?4) ORDER BY key LIMIT ?5";

/// Reads a row of `FIND_VALUE` or `LIST_VALUES`.
pub(crate) fn value(row: &Row<'_>) -> Written<StateValue> {
    Ok(StateValue {
        key: text(row, 0)?,
        version: row.get::<_, i64>(1)? as u64,
        updated_at: timestamp(row.get(2)?)?,
        expires_at: time_or_none(row, 3)?,
        value: body(row, 4)?.decode("a value")?,
    })
}

/// Reads an encoding and the body after it.
pub(crate) fn body(row: &Row<'_>, at: usize) -> Written<Body> {
    Ok(Body { enc: row.get(at)?, bytes: row.get(at + 1)? })
}

/// Reads an id.
pub(crate) fn uuid(row: &Row<'_>, at: usize) -> Written<Uuid> {
    uuid_or_none(row, at)?.ok_or_else(|| Fault::Refused(corrupt("an id", "missing")))
}

/// Reads a namespace.
pub(crate) fn namespace(row: &Row<'_>, at: usize) -> Written<Namespace> {
    Ok(Namespace::new(text(row, at)?).map_err(|error| corrupt("a namespace", error))?)
}

/// Reads an agent's name.
pub(crate) fn agent(row: &Row<'_>, at: usize) -> Written<AgentName> {
    Ok(AgentName::new(text(row, at)?).map_err(|error| corrupt("an agent's name", error))?)
}

fn uuid_or_none(row: &Row<'_>, at: usize) -> Written<Option<Uuid>> {
    match row.get_ref(at)? {
        ValueRef::Null => Ok(None),
        ValueRef::Blob(bytes) => Ok(Some(Uuid::from_slice(bytes).map_err(|error| corrupt("an id", error))?)),
        other => Err(corrupt("an id", other.data_type()).into()),
    }
}

fn text(row: &Row<'_>, at: usize) -> Written<String> {
    Ok(row.get(at)?)
}

fn time_or_none(row: &Row<'_>, at: usize) -> Written<Option<domain::Timestamp>> {
    Ok(row.get::<_, Option<i64>>(at)?.map(timestamp).transpose()?)
}

/// Reads JSON that may be absent; `what` names it in errors.
pub(crate) fn json_or_none<T: serde::de::DeserializeOwned>(row: &Row<'_>, at: usize, what: &str) -> Written<Option<T>> {
    let Some(json) = row.get_ref(at)?.as_str_or_null().map_err(rusqlite::Error::from)? else { return Ok(None) };
    Ok(Some(serde_json::from_str(json).map_err(|error| corrupt(what, error))?))
}
