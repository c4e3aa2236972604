//! Records a task as queued, with its input as step 0.

use domain::{NewTask, StepBody, Task, TaskId, TaskStatus, ThreadId, Usage};
use rusqlite::{OptionalExtension as _, params};
use state::{StateError, Submitted};

use crate::fault::Written;
use crate::rows;
use crate::tx::{BLOCKED, Tx};
use crate::writer::Write;
use state::codec::{Body, corrupt, micros, mode_column, status, step_place, stored_time};

/// A new task with what is stored of it.
#[derive(Debug)]
pub(crate) struct NewRow {
    task: NewTask,
    input: Body,
    metadata: Option<String>,
    terms: Option<String>,
}

impl NewRow {
    /// Encodes the input; cuts the times to what is stored.
    pub(crate) fn encode(mut task: NewTask, threshold: usize) -> Result<Self, StateError> {
        task.created_at = stored_time(task.created_at);
        task.run_at = task.run_at.map(stored_time);
        task.expires_at = task.expires_at.map(stored_time);
        task.deadline = task.deadline.map(stored_time);
        let body = StepBody::Input(std::mem::take(&mut task.input));
        let input = Body::encode(&body, threshold, "the input")?;
        let metadata = if task.metadata.is_empty() { None } else { Some(serde_json::to_string(&task.metadata)) };
        let metadata = metadata.transpose().map_err(|error| corrupt("metadata", error))?;
        let terms = if task.terms.is_empty() { None } else { Some(serde_json::to_string(&task.terms)) };
        let terms = terms.transpose().map_err(|error| corrupt("terms", error))?;
        Ok(Self { task, input, metadata, terms })
    }

    /// The id that it was given.
    pub(crate) fn id(&self) -> TaskId {
        self.task.id
    }

    /// The task as recorded.
    fn into_task(self) -> Task {
        let new = self.task;
        Task {
            id: new.id,
            namespace: new.namespace,
            idempotency_key: new.idempotency_key,
            agent: new.agent,
            agent_version: new.agent_version,
            mode: new.mode,
            status: TaskStatus::Queued,
            priority: new.priority,
            attempt: 0,
            epoch: 0,
            worker: None,
            created_at: new.created_at,
            run_at: new.run_at,
            expires_at: new.expires_at,
            deadline: new.deadline,
            started_at: None,
            finished_at: None,
            thread: new.thread,
            user: new.user,
            parent: new.parent,
            depth: new.depth,
            metadata: new.metadata,
            cancel_requested: false,
            failure: None,
            usage: Usage::default(),
            trace: new.trace,
            terms: new.terms,
        }
    }
}

/// What a submit found or did.
pub(crate) enum Recorded {
    /// The task is new; true when it may be claimed at once.
    Created(NewRow, bool),
    /// The key, or the id, named this task already.
    Known(Task),
}

/// Submits one task.
pub(crate) struct Submit(pub(crate) NewRow);

impl Write for Submit {
    type Output = Submitted;

    fn guarded(&self, _tx: &Tx<'_>) -> bool {
        false
    }

    fn apply(self, tx: &Tx<'_>) -> Written<Submitted> {
        let parent = self.0.task.parent.as_ref().map(|parent| parent.task);
        if let Some(parent) = parent
            && let Some(head) = tx.head(parent)?
            && head.status.is_terminal()
        {
            // Nobody would ever stop it.
            return Err(StateError::Ended { task: parent, status: head.status }.into());
        }
        let recorded = record(tx, self.0)?;
        failpoint::hit("C02");
        Ok(match recorded {
            Recorded::Created(row, _) => Submitted { task: row.into_task(), created: true },
            Recorded::Known(task) => Submitted { task, created: false },
        })
    }
}

impl Recorded {
    /// The id of the new task, or of the one that was there.
    pub(crate) fn id(&self) -> TaskId {
        match self {
            Self::Created(row, _) => row.task.id,
            Self::Known(task) => task.id,
        }
    }

    /// The hint for a new task that may be claimed at once.
    pub(crate) fn ready(&self) -> Option<domain::ReadyTask> {
        match self {
            Self::Created(NewRow { task, .. }, true) => {
                Some(domain::ReadyTask { task: task.id, mode: task.mode, priority: task.priority })
            }
            _ => None,
        }
    }
}

/// Inserts a task unless its key or id is known.
pub(crate) fn record(tx: &Tx<'_>, row: NewRow) -> Written<Recorded> {
    let NewRow { task, input, metadata, terms } = &row;
    // Nothing else may be written for a task that is known; without a key or a thread the insert itself finds out.
    if (task.idempotency_key.is_some() || task.thread.is_some())
        && let Some(known) = find_known(tx, task)?
    {
        return Ok(Recorded::Known(known));
    }
    let thread_key = task.thread.map(|thread| thread_key(tx, task, thread)).transpose()?;
    let blocked = match thread_key {
        Some(thread_key) => {
            let sql = "SELECT 1 FROM tasks WHERE thread_key = ?1 AND status < 3 LIMIT 1";
            tx.statement(sql)?.exists(params![thread_key])?
        }
        None => false,
    };
    let delayed = task.run_at.is_some_and(|run_at| run_at > task.created_at);
    let announced_at = match (blocked, delayed) {
        (true, _) => Some(BLOCKED),
        (false, true) => None,
        (false, false) => Some(micros(task.created_at)),
    };
    let sql = "INSERT INTO tasks (id, namespace, idempotency_key, digest, agent, agent_version, mode, status, priority, \
         created_at, run_at, expires_at, deadline, announced_at, thread_key, thread, for_user, parent, parent_call, \
         depth, metadata, trace, terms) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22) \
         ON CONFLICT (id) DO NOTHING";
    let inserted = tx.execute(
        sql,
        params![
            task.id.0.as_bytes(),
            task.namespace.as_str(),
            task.idempotency_key,
            task.digest,
            task.agent.as_str(),
            task.agent_version,
            mode_column(task.mode),
            task.priority,
            micros(task.created_at),
            task.run_at.map(micros),
            task.expires_at.map(micros),
            task.deadline.map(micros),
            announced_at,
            thread_key,
            task.thread.as_ref().map(|thread| thread.0.as_bytes()),
            task.user,
            task.parent.as_ref().map(|parent| parent.task.0.as_bytes()),
            task.parent.as_ref().map(|parent| &parent.call_id),
            task.depth,
            metadata,
            task.trace,
            terms,
        ],
    )?;
    if inserted == 0 {
        let known = find_known(tx, task)?.ok_or_else(|| corrupt("a task", "its id is taken and not found"))?;
        return Ok(Recorded::Known(known));
    }
    let key = tx.conn.last_insert_rowid();
    if let Some(parent) = &task.parent {
        tx.leases.update(parent.task, |held| held.related = true);
    }
    let sql = "INSERT INTO steps (place, epoch, at, enc, body) VALUES (?1, 0, ?2, ?3, ?4)";
    tx.execute(sql, params![step_place(key, 0), micros(task.created_at), input.enc, input.bytes])?;
    if let Some(idempotency_key) = &task.idempotency_key {
        let sql = "INSERT INTO idempotency (namespace, key, task, digest, created_at) VALUES (?1, ?2, ?3, ?4, ?5)";
        let id = task.id.0.as_bytes();
        let at = micros(task.created_at);
        tx.execute(sql, params![task.namespace.as_str(), idempotency_key, id, task.digest, at])?;
    }
    Ok(Recorded::Created(row, announced_at.is_some() && !blocked))
}

fn find_known(tx: &Tx<'_>, task: &NewTask) -> Written<Option<Task>> {
    if let Some(key) = &task.idempotency_key {
        let sql = "SELECT task, digest, status FROM idempotency WHERE namespace = ?1 AND key = ?2";
        let mut statement = tx.statement(sql)?;
        let mut found = statement.query(params![task.namespace.as_str(), key])?;
        if let Some(row) = found.next()? {
            let known = TaskId(rows::uuid(row, 0)?);
            if row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)? != task.digest {
                return Err(StateError::IdempotencyMismatch { task: known }.into());
            }
            if let Some(ended) = row.get::<_, Option<i64>>(2)? {
                return Err(StateError::Ended { task: known, status: status(ended)? }.into());
            }
            return Ok(Some(tx.known_task(known)?));
        }
    }
    let sql = "SELECT digest, namespace FROM tasks WHERE id = ?1";
    let mut statement = tx.statement(sql)?;
    let mut found = statement.query(params![task.id.0.as_bytes()])?;
    let Some(row) = found.next()? else { return Ok(None) };
    let same = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)? == task.digest
        && row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)? == task.namespace.as_str();
    if !same {
        return Err(StateError::IdempotencyMismatch { task: task.id }.into());
    }
    Ok(Some(tx.known_task(task.id)?))
}

fn thread_key(tx: &Tx<'_>, task: &NewTask, thread: ThreadId) -> Written<i64> {
    let sql = "SELECT key FROM threads WHERE namespace = ?1 AND id = ?2";
    let named = params![task.namespace.as_str(), thread.0.as_bytes()];
    if let Some(key) = tx.statement(sql)?.query_row(named, |row| row.get(0)).optional()? {
        return Ok(key);
    }
    let sql = "INSERT INTO threads (namespace, id, created_at) VALUES (?1, ?2, ?3)";
    tx.execute(sql, params![task.namespace.as_str(), thread.0.as_bytes(), micros(task.created_at)])?;
    Ok(tx.conn.last_insert_rowid())
}
