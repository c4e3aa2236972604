//! Reads, on connections of their own: nothing that only looks ever waits for the writer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use domain::Timestamp;
use domain::{AgentName, ExecutionMode, Namespace, Step, Task, TaskId, TaskStatus, Thread, ThreadId, ThreadMessage};
use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::Value;
use state::{Page, StateError, StateStats, StateValue, TaskFilter};
use tokio::sync::Semaphore;

use crate::fault::{Fault, Written, state_error};
use crate::{rows, schema, tx};
use state::codec::{self, message_key, micros, status_column, step_place, timestamp};

/// The read connections.
pub(crate) struct Readers {
    dir: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    /// Allows `count` reads at once; connections are opened when they are needed.
    pub(crate) fn new(dir: PathBuf, count: usize) -> Self {
        Self { dir, idle: Mutex::default(), permits: Arc::new(Semaphore::new(count.max(1))) }
    }

    /// Runs a read on a blocking thread.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> Written<T> + Send + 'static,
    ) -> Result<T, StateError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| StateError::Closed)?;
        let readers = Arc::clone(self);
        let run = move || {
            let _permit = permit;
            let conn = readers.take()?;
            let result = consistent(&conn, read).map_err(Fault::into_error);
            readers.give_back(conn);
            result
        };
        let joined = tokio::task::spawn_blocking(run).await;
        joined.map_err(|error| StateError::Unavailable(format!("a read did not come to its end: {error}")))?
    }

    /// Closes all; reads that are under way come to their end.
    pub(crate) fn close(&self) {
        self.permits.close();
        self.idle().clear();
    }

    fn take(&self) -> Result<Connection, StateError> {
        let idle = self.idle().pop();
        idle.map_or_else(|| schema::open_reader(&self.dir), Ok)
    }

    fn give_back(&self, conn: Connection) {
        if !self.permits.is_closed() {
            self.idle().push(conn);
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows all statements of one read the same moment.
fn consistent<T>(conn: &Connection, read: impl FnOnce(&Connection) -> Written<T>) -> Written<T> {
    let tx = conn.unchecked_transaction()?;
    let result = read(&tx);
    drop(tx);
    result
}

/// Finds a task.
pub(crate) fn task(conn: &Connection, namespace: &Namespace, id: TaskId) -> Written<Option<Task>> {
    Ok(task_row(conn, namespace, id)?.map(|row| row.task))
}

fn task_row(conn: &Connection, namespace: &Namespace, id: TaskId) -> Written<Option<rows::TaskRow>> {
    let mut statement = conn.prepare_cached(rows::FIND_TASK)?;
    let mut found = statement.query(params![id.0.as_bytes()])?;
    let row = found.next()?.map(rows::task).transpose()?;
    Ok(row.filter(|row| row.task.namespace == *namespace))
}

fn task_key(conn: &Connection, namespace: &Namespace, id: TaskId) -> Written<Option<(i64, TaskStatus)>> {
    let mut statement = conn.prepare_cached("SELECT key, status FROM tasks WHERE id = ?1 AND namespace = ?2")?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let found: Option<(i64, i64)> =
        statement.query_row(params![id.0.as_bytes(), namespace.as_str()], read).optional()?;
    found.map(|(key, status)| Ok((key, codec::status(status)?))).transpose()
}

/// Finds a succeeded task's answer.
pub(crate) fn answer(conn: &Connection, namespace: &Namespace, id: TaskId) -> Written<Option<Value>> {
    match task_key(conn, namespace, id)? {
        Some((key, TaskStatus::Succeeded)) => tx::answer(conn, key),
        _ => Ok(None),
    }
}

/// Finds a task and, when it succeeded, its answer.
pub(crate) fn task_with_answer(
    conn: &Connection,
    namespace: &Namespace,
    id: TaskId,
) -> Written<Option<(Task, Option<Value>)>> {
    let Some(row) = task_row(conn, namespace, id)? else { return Ok(None) };
    let answer = if row.task.status == TaskStatus::Succeeded { tx::answer(conn, row.key)? } else { None };
    Ok(Some((row.task, answer)))
}

/// Lists tasks, the newest first.
pub(crate) fn tasks(
    conn: &Connection,
    namespace: &Namespace,
    filter: &TaskFilter,
    after: Option<TaskId>,
    limit: u32,
) -> Written<Page<Task>> {
    let (sql, values) = list(namespace, filter, after, limit);
    let mut statement = conn.prepare_cached(&sql)?;
    let mut found = statement.query(rusqlite::params_from_iter(values))?;
    let mut items = Vec::new();
    while let Some(row) = found.next()? {
        items.push(rows::task(row)?.task);
    }
    Ok(page(items, limit))
}

/// The statement of a list and its values. It names its index: the planner knows no sizes, and would sort a whole
/// namespace for one page.
fn list(
    namespace: &Namespace,
    filter: &TaskFilter,
    after: Option<TaskId>,
    limit: u32,
) -> (String, Vec<Box<dyn ToSql>>) {
    let statuses = &filter.statuses;
    let live = !statuses.is_empty() && statuses.iter().all(|status| !status.is_terminal());
    let dead = !statuses.is_empty() && statuses.iter().all(|status| dead_letter(*status));
    let index = if filter.parent.is_some() {
        "INDEXED BY tasks_parent"
    } else if filter.thread.is_some() {
        "INDEXED BY tasks_thread"
    } else if dead {
        "INDEXED BY tasks_dead"
    } else if filter.agent.is_some() && !live {
        "INDEXED BY tasks_agent"
    } else {
        "NOT INDEXED"
    };
    let mut sql = format!("SELECT {} FROM tasks {index} WHERE namespace = ?", rows::TASK);
    let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(namespace.as_str().to_owned())];
    if let Some(agent) = &filter.agent {
        sql.push_str(" AND agent = ?");
        values.push(Box::new(agent.as_str().to_owned()));
    }
    if let Some(parent) = filter.parent {
        sql.push_str(" AND parent = ? AND parent IS NOT NULL");
        values.push(Box::new(parent.0.into_bytes().to_vec()));
    }
    if let Some(thread) = filter.thread {
        sql.push_str(
            " AND thread_key = (SELECT key FROM threads WHERE namespace = ? AND id = ?) AND thread_key IS NOT NULL",
        );
        values.push(Box::new(namespace.as_str().to_owned()));
        values.push(Box::new(thread.0.into_bytes().to_vec()));
    }
    if !statuses.is_empty() {
        let columns: Vec<String> = statuses.iter().map(|status| status_column(*status).to_string()).collect();
        let columns = columns.join(", ");
        if live {
            let keys = "SELECT key FROM tasks INDEXED BY tasks_live WHERE status < 3 AND status";
            let _ = write!(sql, " AND key IN ({keys} IN ({columns}))");
        } else {
            let _ = write!(sql, " AND status IN ({columns}){}", if dead { " AND status > 3" } else { "" });
        }
    }
    if let Some(after) = after {
        // Ids sort by creation: they find the place of a task that is gone.
        sql.push_str(
            " AND key < coalesce((SELECT key FROM tasks WHERE id = ?), (SELECT max(key) + 1 FROM tasks WHERE id < ?))",
        );
        values.push(Box::new(after.0.into_bytes().to_vec()));
        values.push(Box::new(after.0.into_bytes().to_vec()));
    }
    sql.push_str(" ORDER BY key DESC LIMIT ?");
    values.push(Box::new(i64::from(limit) + 1));
    (sql, values)
}

fn dead_letter(status: TaskStatus) -> bool {
    matches!(status, TaskStatus::Failed | TaskStatus::Cancelled)
}

fn page<T>(mut items: Vec<T>, limit: u32) -> Page<T> {
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    Page { items, more }
}

/// Lists a journal.
pub(crate) fn journal(
    conn: &Connection,
    namespace: &Namespace,
    id: TaskId,
    from: u32,
    limit: u32,
) -> Written<Vec<Step>> {
    let Some((key, _)) = task_key(conn, namespace, id)? else { return Ok(Vec::new()) };
    if from >= codec::STEPS_MAX {
        return Ok(Vec::new());
    }
    let mut statement = conn.prepare_cached(rows::JOURNAL)?;
    let mut found = statement.query(params![step_place(key, from), step_place(key + 1, 0)])?;
    let mut steps = Vec::new();
    while steps.len() < limit as usize
        && let Some(row) = found.next()?
    {
        steps.push(rows::raw_step(row)?.decode()?);
    }
    Ok(steps)
}

/// Lists threads, the newest first.
pub(crate) fn threads(
    conn: &Connection,
    namespace: &Namespace,
    after: Option<ThreadId>,
    limit: u32,
) -> Written<Page<Thread>> {
    let sql = "SELECT id, created_at, messages FROM threads WHERE namespace = ?1 AND (?2 IS NULL \
         OR key < (SELECT key FROM threads WHERE namespace = ?1 AND id = ?2)) ORDER BY key DESC LIMIT ?3";
    let mut statement = conn.prepare_cached(sql)?;
    let after = after.map(|after| after.0.into_bytes().to_vec());
    let mut found = statement.query(params![namespace.as_str(), after, i64::from(limit) + 1])?;
    let mut items = Vec::new();
    while let Some(row) = found.next()? {
        items.push(Thread {
            id: ThreadId(rows::uuid(row, 0)?),
            namespace: namespace.clone(),
            created_at: timestamp(row.get(1)?)?,
            messages: row.get::<_, i64>(2)? as u64,
        });
    }
    Ok(page(items, limit))
}

/// Lists a thread's messages.
pub(crate) fn thread_messages(
    conn: &Connection,
    namespace: &Namespace,
    thread: ThreadId,
    after: u64,
    limit: u32,
) -> Written<Option<Vec<ThreadMessage>>> {
    let mut statement = conn.prepare_cached("SELECT key FROM threads WHERE namespace = ?1 AND id = ?2")?;
    let named = params![namespace.as_str(), thread.0.as_bytes()];
    let Some(key) = statement.query_row(named, |row| row.get::<_, i64>(0)).optional()? else { return Ok(None) };
    let mut statement = conn.prepare_cached(rows::MESSAGES)?;
    let range = params![message_key(key, after.saturating_add(1)), message_key(key, u64::MAX), limit];
    let mut found = statement.query(range)?;
    let mut messages = Vec::new();
    while let Some(row) = found.next()? {
        messages.push(rows::raw_message(row)?.decode()?);
    }
    Ok(Some(messages))
}

/// Finds a value that has not expired.
pub(crate) fn value(
    conn: &Connection,
    namespace: &Namespace,
    scope: &str,
    key: &str,
    now: Timestamp,
) -> Written<Option<StateValue>> {
    let mut statement = conn.prepare_cached(rows::FIND_VALUE)?;
    let mut found = statement.query(params![namespace.as_str(), scope, key, micros(now)])?;
    found.next()?.map(rows::value).transpose()
}

/// Lists a scope's values by key.
pub(crate) fn values(
    conn: &Connection,
    namespace: &Namespace,
    scope: &str,
    after: Option<&str>,
    limit: u32,
    now: Timestamp,
) -> Written<Page<StateValue>> {
    let mut statement = conn.prepare_cached(rows::LIST_VALUES)?;
    let limit_and_one = i64::from(limit) + 1;
    let mut found = statement.query(params![namespace.as_str(), scope, micros(now), after, limit_and_one])?;
    let mut items = Vec::new();
    while let Some(row) = found.next()? {
        items.push(rows::value(row)?);
    }
    Ok(page(items, limit))
}

/// Counts what is stored.
pub(crate) fn stats(conn: &Connection, namespace: Option<&Namespace>) -> Written<StateStats> {
    let namespace = namespace.map(Namespace::as_str);
    let mut stats = StateStats::default();
    let mut active: BTreeMap<(AgentName, TaskStatus), u64> = BTreeMap::new();
    let sql = "SELECT status, mode, agent, count(*) FROM tasks \
         WHERE status < 3 AND (?1 IS NULL OR namespace = ?1) GROUP BY status, mode, agent";
    let mut statement = conn.prepare_cached(sql)?;
    let mut found = statement.query(params![namespace])?;
    while let Some(row) = found.next()? {
        let status = codec::status(row.get(0)?)?;
        let mode: ExecutionMode = codec::mode(row.get(1)?)?;
        let count = row.get::<_, i64>(3)? as u64;
        *stats.tasks.entry(status).or_default() += count;
        *active.entry((rows::agent(row, 2)?, status)).or_default() += count;
        if status == TaskStatus::Queued {
            *stats.queued.entry(mode).or_default() += count;
        }
    }
    stats.active = active.into_iter().map(|((agent, status), count)| (agent, status, count)).collect();
    let sql = "SELECT status, count(*) FROM tasks INDEXED BY tasks_ended \
         WHERE status > 2 AND (?1 IS NULL OR namespace = ?1) GROUP BY status";
    let mut statement = conn.prepare_cached(sql)?;
    let mut found = statement.query(params![namespace])?;
    while let Some(row) = found.next()? {
        stats.tasks.insert(codec::status(row.get(0)?)?, row.get::<_, i64>(1)? as u64);
    }
    let count = |sql: &str| -> Written<u64> {
        let count: i64 = conn.prepare_cached(sql)?.query_row(params![namespace], |row| row.get(0))?;
        Ok(count as u64)
    };
    stats.values = count("SELECT count(*) FROM state_values WHERE ?1 IS NULL OR namespace = ?1")?;
    stats.threads = count("SELECT count(*) FROM threads WHERE ?1 IS NULL OR namespace = ?1")?;
    Ok(stats)
}

/// Proves that the file can be read.
pub(crate) fn ping(conn: &Connection) -> Written<()> {
    let mut statement = conn.prepare_cached("SELECT max(key) FROM tasks")?;
    statement.query_row([], |row| row.get::<_, Option<i64>>(0)).map_err(|error| state_error(&error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use domain::TaskStatus::{Cancelled, Failed, Queued, Running, Succeeded, Waiting};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn no_list_sorts_or_reads_what_it_does_not_show() {
        let dir = tempfile::tempdir().expect("a directory");
        let conn = schema::open_writer(dir.path(), None).expect("opened");
        let agent = Some(AgentName::new("a").expect("a valid name"));
        let parent = Some(TaskId(Uuid::nil()));
        let thread = Some(ThreadId(Uuid::nil()));
        let by = |statuses: &[TaskStatus]| TaskFilter { statuses: statuses.to_vec(), ..TaskFilter::default() };
        for (filter, access) in [
            (TaskFilter::default(), "tasks"),
            (by(&[Succeeded]), "tasks"),
            (by(&[Succeeded, Queued]), "tasks"),
            (by(&[Queued]), "tasks_live"),
            (by(&[Queued, Running, Waiting]), "tasks_live"),
            (TaskFilter { agent: agent.clone(), ..by(&[Queued]) }, "tasks_live"),
            (by(&[Failed]), "tasks_dead"),
            (by(&[Failed, Cancelled]), "tasks_dead"),
            (TaskFilter { agent: agent.clone(), ..by(&[]) }, "tasks_agent"),
            (TaskFilter { agent, ..by(&[Succeeded]) }, "tasks_agent"),
            (TaskFilter { parent, ..by(&[]) }, "tasks_parent"),
            (TaskFilter { parent, ..by(&[Queued]) }, "tasks_parent"),
            (TaskFilter { thread, ..by(&[]) }, "tasks_thread"),
        ] {
            for after in [None, Some(TaskId(Uuid::nil()))] {
                let (sql, values) = list(&Namespace::default(), &filter, after, 10);
                let mut plan = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("prepared");
                let lines = plan.query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(3));
                let lines: Vec<_> = lines.expect("read").collect::<Result<_, _>>().expect("read");
                assert!(lines.iter().any(|line| line.contains(access)), "{filter:?}: {lines:?}");
                assert!(!lines.iter().any(|line| line.contains("ORDER BY")), "{filter:?}: {lines:?}");
            }
        }
    }
}
