//! Reads: what only looks, one statement where it can be, on connections of their own.

use std::collections::{BTreeMap, HashMap};

use domain::Timestamp;
use domain::{
    AgentName, ExecutionMode, Namespace, Step, StepBody, Task, TaskId, TaskStatus, Thread, ThreadId, ThreadMessage,
};
use serde_json::Value;
use sqlx::{PgConnection, Postgres, QueryBuilder, Row as _};
use state::{Page, StateStats, StateValue, TaskFilter};
use uuid::Uuid;

use crate::fault::Written;
use crate::{rows, tx};
use state::codec::{self, message_key, micros, status_column, timestamp};

/// Finds tasks, and the answers of those that succeeded and whose answer is asked for.
pub(crate) async fn look_up(
    conn: &mut PgConnection,
    asked: &HashMap<TaskId, bool>,
) -> Written<HashMap<TaskId, (Task, Option<Value>)>> {
    let mut found = HashMap::with_capacity(asked.len());
    let mut answered = HashMap::new();
    let ids: Vec<Uuid> = asked.keys().map(|id| id.0).collect();
    for row in sqlx::query(rows::FIND_TASKS).bind(ids).fetch_all(&mut *conn).await? {
        let row = rows::task(&row)?;
        if row.task.status == TaskStatus::Succeeded && asked.get(&row.task.id) == Some(&true) {
            answered.insert(row.key, row.task.id);
        }
        found.insert(row.task.id, (row.task, None));
    }
    if answered.is_empty() {
        return Ok(found);
    }
    let keys: Vec<i64> = answered.keys().copied().collect();
    for row in sqlx::query(rows::LAST_STEPS).bind(keys).fetch_all(&mut *conn).await? {
        let raw = rows::raw_step(&row)?;
        let key = codec::task_of_place(raw.place);
        let step: Step = raw.decode()?;
        let answer = match step.body {
            StepBody::Model(model) => Some(model.output()),
            _ => tx::answer(conn, key).await?,
        };
        if let Some((_, empty)) = answered.get(&key).and_then(|id| found.get_mut(id)) {
            *empty = answer;
        }
    }
    Ok(found)
}

/// Finds a succeeded task's answer.
pub(crate) async fn answer(conn: &mut PgConnection, namespace: &Namespace, id: TaskId) -> Written<Option<Value>> {
    let sql = "SELECT key FROM tasks WHERE id = $1 AND namespace = $2 AND status = $3";
    let key = sqlx::query_scalar(sql).bind(id.0).bind(namespace.as_str());
    match key.bind(status_column(TaskStatus::Succeeded)).fetch_optional(&mut *conn).await? {
        Some(key) => tx::answer(conn, key).await,
        None => Ok(None),
    }
}

/// Lists tasks, the newest first.
pub(crate) async fn tasks(
    conn: &mut PgConnection,
    namespace: &Namespace,
    filter: &TaskFilter,
    after: Option<TaskId>,
    limit: u32,
) -> Written<Page<Task>> {
    let found = list(namespace, filter, after, limit).build().fetch_all(conn).await?;
    let items = found.iter().map(|row| Ok(rows::task(row)?.task)).collect::<Written<_>>()?;
    Ok(page(items, limit))
}

fn list(namespace: &Namespace, filter: &TaskFilter, after: Option<TaskId>, limit: u32) -> QueryBuilder<Postgres> {
    let mut sql = QueryBuilder::new("SELECT ");
    sql.push(rows::TASK).push(" FROM tasks WHERE namespace = ").push_bind(namespace.as_str().to_owned());
    if let Some(agent) = &filter.agent {
        sql.push(" AND agent = ").push_bind(agent.as_str().to_owned());
    }
    if let Some(parent) = filter.parent {
        sql.push(" AND parent IS NOT NULL AND parent = ").push_bind(parent.0);
    }
    if let Some(thread) = filter.thread {
        sql.push(" AND thread_key IS NOT NULL AND thread_key = (SELECT key FROM threads WHERE namespace = ");
        sql.push_bind(namespace.as_str().to_owned()).push(" AND id = ").push_bind(thread.0).push(")");
    }
    let statuses = &filter.statuses;
    if !statuses.is_empty() {
        // Written out, so that the planner sees which of the partial indexes holds them.
        let columns: Vec<String> = statuses.iter().map(|status| status_column(*status).to_string()).collect();
        sql.push(" AND status IN (").push(columns.join(", ")).push(")");
        if statuses.iter().all(|status| !status.is_terminal()) {
            sql.push(" AND status < 3");
        } else if statuses.iter().all(|status| matches!(status, TaskStatus::Failed | TaskStatus::Cancelled)) {
            sql.push(" AND status > 3");
        }
    }
    if let Some(after) = after {
        // Ids sort by creation: they find the place of a task that is gone.
        sql.push(" AND key < coalesce((SELECT key FROM tasks WHERE id = ").push_bind(after.0);
        sql.push("), (SELECT max(key) + 1 FROM tasks WHERE id < ").push_bind(after.0).push("))");
    }
    sql.push(" ORDER BY key DESC LIMIT ").push_bind(i64::from(limit) + 1);
    sql
}

fn page<T>(mut items: Vec<T>, limit: u32) -> Page<T> {
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    Page { items, more }
}

/// Lists a journal.
pub(crate) async fn journal(
    conn: &mut PgConnection,
    namespace: &Namespace,
    id: TaskId,
    from: u32,
    limit: u32,
) -> Written<Vec<Step>> {
    if from >= codec::STEPS_MAX {
        return Ok(Vec::new());
    }
    let sql = "SELECT step.* FROM tasks CROSS JOIN LATERAL ( \
             SELECT place, epoch, at, enc, body FROM steps \
             WHERE place >= (tasks.key << 20) + $3 AND place < (tasks.key + 1) << 20 ORDER BY place LIMIT $4 \
         ) AS step WHERE tasks.id = $1 AND tasks.namespace = $2 ORDER BY step.place";
    let query = sqlx::query(sql).bind(id.0).bind(namespace.as_str()).bind(i64::from(from)).bind(i64::from(limit));
    query.fetch_all(conn).await?.iter().map(|row| Ok(rows::raw_step(row)?.decode()?)).collect()
}

/// Lists threads, the newest first.
pub(crate) async fn threads(
    conn: &mut PgConnection,
    namespace: &Namespace,
    after: Option<ThreadId>,
    limit: u32,
) -> Written<Page<Thread>> {
    let sql = "SELECT id, created_at, messages FROM threads WHERE namespace = $1 AND ($2::uuid IS NULL \
         OR key < (SELECT key FROM threads WHERE namespace = $1 AND id = $2)) ORDER BY key DESC LIMIT $3";
    let query = sqlx::query(sql).bind(namespace.as_str()).bind(after.map(|after| after.0)).bind(i64::from(limit) + 1);
    let mut items = Vec::new();
    for row in query.fetch_all(conn).await? {
        items.push(Thread {
            id: ThreadId(row.try_get(0)?),
            namespace: namespace.clone(),
            created_at: timestamp(row.try_get(1)?)?,
            messages: row.try_get::<i64, _>(2)? as u64,
        });
    }
    Ok(page(items, limit))
}

/// Lists a thread's messages.
pub(crate) async fn thread_messages(
    conn: &mut PgConnection,
    namespace: &Namespace,
    thread: ThreadId,
    after: u64,
    limit: u32,
) -> Written<Option<Vec<ThreadMessage>>> {
    let sql = "SELECT key FROM threads WHERE namespace = $1 AND id = $2";
    let key = sqlx::query_scalar(sql).bind(namespace.as_str()).bind(thread.0);
    let Some(key) = key.fetch_optional(&mut *conn).await? else { return Ok(None) };
    let query = sqlx::query(rows::MESSAGES)
        .bind(message_key(key, after.saturating_add(1)))
        .bind(message_key(key, u64::MAX))
        .bind(i64::from(limit));
    let messages = query.fetch_all(conn).await?;
    Ok(Some(messages.iter().map(|row| Ok(rows::raw_message(row)?.decode()?)).collect::<Written<_>>()?))
}

/// Finds a value that has not expired.
pub(crate) async fn value(
    conn: &mut PgConnection,
    namespace: &Namespace,
    scope: &str,
    key: &str,
    now: Timestamp,
) -> Written<Option<StateValue>> {
    let query = sqlx::query(rows::FIND_VALUE).bind(namespace.as_str()).bind(scope).bind(key).bind(micros(now));
    query.fetch_optional(conn).await?.as_ref().map(rows::value).transpose()
}

/// Lists a scope's values by key.
pub(crate) async fn values(
    conn: &mut PgConnection,
    namespace: &Namespace,
    scope: &str,
    after: Option<&str>,
    limit: u32,
    now: Timestamp,
) -> Written<Page<StateValue>> {
    let query = sqlx::query(rows::LIST_VALUES).bind(namespace.as_str()).bind(scope).bind(micros(now));
    let found = query.bind(after).bind(i64::from(limit) + 1).fetch_all(conn).await?;
    Ok(page(found.iter().map(rows::value).collect::<Written<_>>()?, limit))
}

/// Counts what is stored.
pub(crate) async fn stats(conn: &mut PgConnection, namespace: Option<&Namespace>) -> Written<StateStats> {
    let namespace = namespace.map(Namespace::as_str);
    let mut stats = StateStats::default();
    let mut active: BTreeMap<(AgentName, TaskStatus), u64> = BTreeMap::new();
    let sql = "SELECT status, mode, agent, count(*) FROM tasks \
         WHERE status < 3 AND ($1::text IS NULL OR namespace = $1) GROUP BY status, mode, agent";
    for row in sqlx::query(sql).bind(namespace).fetch_all(&mut *conn).await? {
        let status = codec::status(row.try_get(0)?)?;
        let mode: ExecutionMode = codec::mode(row.try_get(1)?)?;
        let count = row.try_get::<i64, _>(3)? as u64;
        *stats.tasks.entry(status).or_default() += count;
        *active.entry((rows::agent(&row, 2)?, status)).or_default() += count;
        if status == TaskStatus::Queued {
            *stats.queued.entry(mode).or_default() += count;
        }
    }
    stats.active = active.into_iter().map(|((agent, status), count)| (agent, status, count)).collect();
    let sql = "SELECT status, count(*) FROM tasks \
         WHERE status > 2 AND ($1::text IS NULL OR namespace = $1) GROUP BY status";
    for row in sqlx::query(sql).bind(namespace).fetch_all(&mut *conn).await? {
        stats.tasks.insert(codec::status(row.try_get(0)?)?, row.try_get::<i64, _>(1)? as u64);
    }
    let sql = "SELECT (SELECT count(*) FROM state_values WHERE $1::text IS NULL OR namespace = $1), \
         (SELECT count(*) FROM threads WHERE $1::text IS NULL OR namespace = $1), \
         pg_database_size(current_database())";
    let row = sqlx::query(sql).bind(namespace).fetch_one(conn).await?;
    let count = |at: usize| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(at)? as u64);
    (stats.values, stats.threads, stats.bytes) = (count(0)?, count(1)?, count(2)?);
    Ok(stats)
}

/// Proves that the record can be read.
pub(crate) async fn ping(conn: &mut PgConnection) -> Written<()> {
    sqlx::query("SELECT max(key) FROM tasks").fetch_one(conn).await?;
    Ok(())
}
