//! Records a task as queued, with its input as step 0.

use async_trait::async_trait;
use domain::{NewTask, StepBody, Task, TaskId, TaskStatus, ThreadId, Usage};
use sqlx::Row as _;
use state::{StateError, Submitted};

use crate::fault::Written;
use crate::tx::{BLOCKED, Tx};
use crate::writer::Write;
use state::codec::{Body, corrupt, micros, mode_column, status, step_place, stored_time};

/// A new task with what is stored of it.
#[derive(Debug, Clone)]
pub(crate) struct NewRow {
    pub(crate) task: NewTask,
    pub(crate) input: Body,
    pub(crate) metadata: Option<String>,
    pub(crate) terms: Option<String>,
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

    /// Tells whether it may be claimed only later.
    pub(crate) fn is_delayed(&self) -> bool {
        self.task.run_at.is_some_and(|run_at| run_at > self.task.created_at)
    }

    /// The task as recorded.
    pub(crate) fn to_task(&self) -> Task {
        let new = self.task.clone();
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
pub(crate) enum Recorded<'a> {
    /// The task is new; true when it may be claimed at once.
    Created(&'a NewRow, bool),
    /// The key, or the id, named this task already.
    Known(Box<Task>),
}

/// Submits one task.
pub(crate) struct Submit(pub(crate) NewRow);

#[async_trait]
impl Write for Submit {
    type Output = Submitted;

    fn locks_books(&self) -> bool {
        self.0.task.thread.is_some() || self.0.task.parent.is_some()
    }

    async fn apply(&self, tx: &mut Tx<'_>) -> Written<Submitted> {
        let parent = self.0.task.parent.as_ref().map(|parent| parent.task);
        if let Some(parent) = parent
            && let Some(head) = tx.head(parent).await?
            && head.status.is_terminal()
        {
            // Nobody would ever stop it.
            return Err(StateError::Ended { task: parent, status: head.status }.into());
        }
        let recorded = record(tx, &self.0).await?;
        failpoint::hit("C02");
        Ok(match recorded {
            Recorded::Created(row, _) => Submitted { task: row.to_task(), created: true },
            Recorded::Known(task) => Submitted { task: *task, created: false },
        })
    }

    async fn done_before(&self, tx: &mut Tx<'_>) -> Written<Option<Submitted>> {
        let known = tx.task(self.0.id()).await?;
        let same = known.filter(|known| known.task.namespace == self.0.task.namespace);
        let Some(known) = same else { return Ok(None) };
        let sql = "SELECT 1 FROM tasks WHERE key = $1 AND digest = $2";
        let same = tx.exists(sqlx::query(sql).bind(known.key).bind(self.0.task.digest)).await?;
        Ok(same.then_some(Submitted { task: known.task, created: true }))
    }
}

impl Recorded<'_> {
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
///
/// The key is taken first: of two submits with one key at the same moment the second waits here until the first is known.
pub(crate) async fn record<'a>(tx: &mut Tx<'_>, row: &'a NewRow) -> Written<Recorded<'a>> {
    let NewRow { task, input, metadata, terms } = row;
    if !take_key(tx, task).await?
        && let Some(known) = by_key(tx, task).await?
    {
        return Ok(Recorded::Known(Box::new(known)));
    }
    if task.thread.is_some()
        && let Some(known) = by_id(tx, task).await?
    {
        drop_key(tx, task).await?;
        return Ok(Recorded::Known(Box::new(known)));
    }
    let thread_key = match task.thread {
        Some(thread) => Some(thread_key(tx, task, thread).await?),
        None => None,
    };
    let blocked = match thread_key {
        Some(thread_key) => {
            let sql = "SELECT 1 FROM tasks WHERE thread_key = $1 AND status < 3 LIMIT 1";
            tx.exists(sqlx::query(sql).bind(thread_key)).await?
        }
        None => false,
    };
    let announced_at = match (blocked, row.is_delayed()) {
        (true, _) => Some(BLOCKED),
        (false, true) => None,
        (false, false) => Some(micros(task.created_at)),
    };
    let sql = "INSERT INTO tasks (id, namespace, idempotency_key, digest, agent, agent_version, mode, status, priority, \
         created_at, run_at, expires_at, deadline, announced_at, thread_key, thread, for_user, parent, parent_call, \
         depth, metadata, trace, terms) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $9, $10, $11, $12, $13, $14, $15, \
         $16, $17, $18, $19, $20, $21, $22) ON CONFLICT (id) DO NOTHING RETURNING key";
    let insert = sqlx::query(sql)
        .bind(task.id.0)
        .bind(task.namespace.as_str())
        .bind(&task.idempotency_key)
        .bind(task.digest)
        .bind(task.agent.as_str())
        .bind(i64::from(task.agent_version))
        .bind(mode_column(task.mode))
        .bind(i64::from(task.priority))
        .bind(micros(task.created_at))
        .bind(task.run_at.map(micros))
        .bind(task.expires_at.map(micros))
        .bind(task.deadline.map(micros))
        .bind(announced_at)
        .bind(thread_key)
        .bind(task.thread.map(|thread| thread.0))
        .bind(&task.user)
        .bind(task.parent.as_ref().map(|parent| parent.task.0))
        .bind(task.parent.as_ref().map(|parent| &parent.call_id))
        .bind(i64::from(task.depth))
        .bind(metadata)
        .bind(&task.trace)
        .bind(terms);
    let Some(inserted) = insert.fetch_optional(&mut *tx.conn).await? else {
        drop_key(tx, task).await?;
        let known = by_id(tx, task).await?.ok_or_else(|| corrupt("a task", "its id is taken and not found"))?;
        return Ok(Recorded::Known(Box::new(known)));
    };
    let key: i64 = inserted.try_get(0)?;
    let sql = "INSERT INTO steps (place, epoch, at, enc, body) VALUES ($1, 0, $2, $3, $4)";
    let insert = sqlx::query(sql).bind(step_place(key, 0)).bind(micros(task.created_at));
    tx.execute(insert.bind(input.enc).bind(&input.bytes)).await?;
    Ok(Recorded::Created(row, announced_at.is_some() && !blocked))
}

/// Takes the idempotency key for a task; false when somebody has it. True without a key.
async fn take_key(tx: &mut Tx<'_>, task: &NewTask) -> Written<bool> {
    let Some(key) = &task.idempotency_key else { return Ok(true) };
    let sql = "INSERT INTO idempotency (namespace, key, task, digest, created_at) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (namespace, key) DO NOTHING";
    let insert = sqlx::query(sql).bind(task.namespace.as_str()).bind(key).bind(task.id.0).bind(task.digest);
    Ok(tx.execute(insert.bind(micros(task.created_at))).await? == 1)
}

/// Gives back a key that was just taken for a task which then turned out to be known by its id.
async fn drop_key(tx: &mut Tx<'_>, task: &NewTask) -> Written<()> {
    if let Some(key) = &task.idempotency_key {
        let sql = "DELETE FROM idempotency WHERE namespace = $1 AND key = $2";
        tx.execute(sqlx::query(sql).bind(task.namespace.as_str()).bind(key)).await?;
    }
    Ok(())
}

/// Finds the task that an idempotency key names.
async fn by_key(tx: &mut Tx<'_>, task: &NewTask) -> Written<Option<Task>> {
    let sql = "SELECT task, digest, status FROM idempotency WHERE namespace = $1 AND key = $2";
    let found = sqlx::query(sql).bind(task.namespace.as_str()).bind(&task.idempotency_key);
    let Some(row) = found.fetch_optional(&mut *tx.conn).await? else { return Ok(None) };
    let known = TaskId(row.try_get(0)?);
    if row.try_get::<&[u8], _>(1)? != task.digest {
        return Err(StateError::IdempotencyMismatch { task: known }.into());
    }
    if let Some(ended) = row.try_get::<Option<i64>, _>(2)? {
        return Err(StateError::Ended { task: known, status: status(ended)? }.into());
    }
    Ok(Some(tx.known_task(known).await?))
}

/// Finds the task that has the id already.
async fn by_id(tx: &mut Tx<'_>, task: &NewTask) -> Written<Option<Task>> {
    let sql = "SELECT digest, namespace FROM tasks WHERE id = $1";
    let found = sqlx::query(sql).bind(task.id.0).fetch_optional(&mut *tx.conn).await?;
    let Some(row) = found else { return Ok(None) };
    if row.try_get::<&[u8], _>(0)? != task.digest || row.try_get::<&str, _>(1)? != task.namespace.as_str() {
        return Err(StateError::IdempotencyMismatch { task: task.id }.into());
    }
    Ok(Some(tx.known_task(task.id).await?))
}

/// Finds or makes a thread, whose row it locks: its tasks are numbered in the order in which they are recorded.
async fn thread_key(tx: &mut Tx<'_>, task: &NewTask, thread: ThreadId) -> Written<i64> {
    let sql = "INSERT INTO threads (namespace, id, created_at) VALUES ($1, $2, $3) \
         ON CONFLICT (namespace, id) DO UPDATE SET created_at = threads.created_at RETURNING key";
    let made = sqlx::query(sql).bind(task.namespace.as_str()).bind(thread.0).bind(micros(task.created_at));
    Ok(made.fetch_one(&mut *tx.conn).await?.try_get(0)?)
}
