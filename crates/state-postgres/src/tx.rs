//! The open transaction, and the changes of status that several operations share.

use domain::{
    Amount, ChildOutcome, Clock, Failure, Lease, Namespace, Resolution, Step, StepBody, Task, TaskId, TaskStatus,
    Timestamp, Usage,
};
use serde_json::Value;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres, Row as _};
use state::{StateError, Transition};

use crate::books::Books;
use crate::fault::{Fault, Written};
use crate::ops::budget;
use crate::rows::{self, Head, TaskRow};
use state::codec::{Body, STEPS_MAX, corrupt, micros, status_column, step_place, step_seq};

/// `announced_at` of a queued task that must wait for an earlier one of its thread.
pub(crate) const BLOCKED: i64 = i64::MAX;
/// `announced_at` of a queued task that one of its gates holds back.
pub(crate) const HELD: i64 = BLOCKED - 1;

/// A step, encoded by whoever writes it, so that the lanes only copy bytes.
#[derive(Debug, Clone)]
pub(crate) struct EncodedStep {
    pub(crate) seq: u32,
    pub(crate) at: i64,
    pub(crate) body: Body,
    /// What a model's step used; it settles the reservation of its call.
    pub(crate) used: Option<Amount>,
}

/// How a task ends.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) status: TaskStatus,
    pub(crate) failure: Option<Failure>,
    /// What it used; none when no worker says so, and the journal is asked.
    pub(crate) usage: Option<Usage>,
}

impl End {
    /// Somebody asked it to stop.
    pub(crate) fn cancelled() -> Self {
        Self { status: TaskStatus::Cancelled, failure: None, usage: None }
    }

    /// It failed without a worker's word.
    pub(crate) fn failed(failure: Failure) -> Self {
        Self { status: TaskStatus::Failed, failure: Some(failure), usage: None }
    }
}

/// A held lease: its task's row is locked until the transaction ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// The task's row.
    pub(crate) key: i64,
    /// Leases lost without a step in between.
    pub(crate) losses: u32,
    /// The number of its next step.
    pub(crate) next_seq: u32,
    /// It may have accounts that its calls are paid from.
    pub(crate) has_accounts: bool,
}

/// The transaction that is open; one for all operations of a batch.
pub(crate) struct Tx<'a> {
    pub(crate) conn: &'a mut PgConnection,
    pub(crate) books: &'a mut Books,
    pub(crate) clock: &'a dyn Clock,
    /// Bodies above this many bytes are compressed.
    pub(crate) threshold: usize,
}

impl Tx<'_> {
    /// Runs a statement; returns how many rows it changed.
    pub(crate) async fn execute(&mut self, query: Query<'_, Postgres, PgArguments>) -> Written<u64> {
        Ok(query.execute(&mut *self.conn).await?.rows_affected())
    }

    /// Tells whether a statement finds a row.
    pub(crate) async fn exists(&mut self, query: Query<'_, Postgres, PgArguments>) -> Written<bool> {
        Ok(query.fetch_optional(&mut *self.conn).await?.is_some())
    }

    /// Finds a task's head and locks its row.
    pub(crate) async fn head(&mut self, id: TaskId) -> Written<Option<Head>> {
        self.find_head(sqlx::query(rows::HEAD_BY_ID).bind(id.0)).await
    }

    /// Finds a task's head by its row, which it locks.
    pub(crate) async fn head_at(&mut self, key: i64) -> Written<Head> {
        self.find_head(sqlx::query(rows::HEAD_BY_KEY).bind(key))
            .await?
            .ok_or_else(|| corrupt("a task's row", format!("{key} is missing")).into())
    }

    /// Finds a task's head in its namespace and locks its row.
    pub(crate) async fn head_in(&mut self, namespace: &Namespace, id: TaskId) -> Written<Head> {
        let found = self.find_head(sqlx::query(rows::HEAD_IN_NAMESPACE).bind(id.0).bind(namespace.as_str())).await?;
        found.ok_or(Fault::Refused(StateError::UnknownTask { task: id }))
    }

    async fn find_head(&mut self, query: Query<'_, Postgres, PgArguments>) -> Written<Option<Head>> {
        query.fetch_optional(&mut *self.conn).await?.as_ref().map(rows::head).transpose()
    }

    /// Lists the heads of some rows, in the order of their keys, and locks them.
    pub(crate) async fn heads(&mut self, keys: &[i64]) -> Written<Vec<Head>> {
        sqlx::query(rows::HEADS).bind(keys).fetch_all(&mut *self.conn).await?.iter().map(rows::head).collect()
    }

    /// Lists the keys that a statement selects.
    pub(crate) async fn keys(&mut self, query: Query<'_, Postgres, PgArguments>) -> Written<Vec<i64>> {
        let found = query.fetch_all(&mut *self.conn).await?;
        Ok(found.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    /// Finds a whole task and locks its row.
    pub(crate) async fn task(&mut self, id: TaskId) -> Written<Option<TaskRow>> {
        let found = sqlx::query(rows::LOCK_TASK).bind(id.0).fetch_optional(&mut *self.conn).await?;
        found.as_ref().map(rows::task).transpose()
    }

    /// Finds a task that must be there.
    pub(crate) async fn known_task(&mut self, id: TaskId) -> Written<Task> {
        Ok(self.task(id).await?.ok_or(StateError::UnknownTask { task: id })?.task)
    }

    /// The task of a lease, whose row it locks; none when the lease was lost.
    pub(crate) async fn held(&mut self, lease: Lease) -> Written<Option<Held>> {
        let sql = "SELECT key, losses, coalesce(position('\"accounts\"' IN terms) > 0, false) FROM tasks \
             WHERE id = $1 AND status = 1 AND epoch = $2 FOR UPDATE";
        let found = sqlx::query(sql).bind(lease.task.0).bind(i64::from(lease.epoch));
        let Some(row) = found.fetch_optional(&mut *self.conn).await? else { return Ok(None) };
        let key: i64 = row.try_get(0)?;
        // A statement of its own: it must see what was committed while the lock was waited for.
        let next_seq = self.next_seq(key).await?;
        Ok(Some(Held { key, losses: rows::number(&row, 1)?, next_seq, has_accounts: row.try_get(2)? }))
    }

    /// The number of a journal's next step.
    pub(crate) async fn next_seq(&mut self, task_key: i64) -> Written<u32> {
        let sql = "SELECT max(place) FROM steps WHERE place >= $1 AND place < $2";
        let last = sqlx::query(sql).bind(step_place(task_key, 0)).bind(step_place(task_key + 1, 0));
        let last: Option<i64> = last.fetch_one(&mut *self.conn).await?.try_get(0)?;
        Ok(last.map_or(0, |place| step_seq(place) + 1))
    }

    /// Appends a step that no worker wrote. The task's row is locked.
    pub(crate) async fn append_own(&mut self, task_key: i64, body: &StepBody, at: Timestamp) -> Written<()> {
        let seq = self.next_seq(task_key).await?;
        if seq >= STEPS_MAX {
            return Err(StateError::TooLarge(format!("a journal has at most {STEPS_MAX} steps")).into());
        }
        let body = Body::encode_own(body, self.threshold, "a step")?;
        let sql = "INSERT INTO steps (place, epoch, at, enc, body) VALUES ($1, 0, $2, $3, $4)";
        let insert = sqlx::query(sql).bind(step_place(task_key, seq)).bind(micros(at)).bind(body.enc).bind(body.bytes);
        self.execute(insert).await?;
        Ok(())
    }

    /// Queues a task that was running, waiting or ended.
    ///
    /// The caller has checked that it may; a task of a thread is queued behind the earlier ones.
    pub(crate) async fn queue(
        &mut self,
        head: &Head,
        run_at: Option<Timestamp>,
        now: Timestamp,
        transition: &mut Transition,
    ) -> Written<()> {
        let delayed = run_at.is_some_and(|run_at| run_at > now);
        let announced_at = match head.thread_key {
            Some(_) => Some(BLOCKED),
            None if delayed => None,
            None => Some(micros(now)),
        };
        let sql = "UPDATE tasks SET status = 0, worker = NULL, run_at = $4, announced_at = $5 \
             WHERE key = $1 AND status = $2 AND epoch = $3";
        let update = sqlx::query(sql)
            .bind(head.key)
            .bind(status_column(head.status))
            .bind(i64::from(head.epoch))
            .bind(run_at.map(micros))
            .bind(announced_at);
        let changed = self.execute(update).await?;
        expect_one(changed, head)?;
        if head.status == TaskStatus::Running {
            self.end_lease(head, now, transition).await?;
        }
        match head.thread_key {
            Some(thread_key) => self.settle_thread(thread_key, now, transition).await?,
            None if delayed => {}
            None => transition.ready.push(head.ready()),
        }
        Ok(())
    }

    /// Ends a lease: what is still reserved under it counts as spent, and its places are free for others.
    pub(crate) async fn end_lease(&mut self, head: &Head, now: Timestamp, transition: &mut Transition) -> Written<()> {
        if head.has_accounts {
            budget::forfeit(self, head.key).await?;
        }
        if head.has_gates {
            self.leave_gates(head.id, now, transition).await?;
        }
        Ok(())
    }

    /// Lets the first task of a thread go, unless one is under way.
    pub(crate) async fn settle_thread(
        &mut self,
        thread_key: i64,
        now: Timestamp,
        transition: &mut Transition,
    ) -> Written<()> {
        let sql = "SELECT 1 FROM tasks WHERE thread_key = $1 AND status < 3 AND status > 0 LIMIT 1";
        if self.exists(sqlx::query(sql).bind(thread_key)).await? {
            return Ok(());
        }
        let sql = "SELECT key, announced_at FROM tasks \
             WHERE thread_key = $1 AND thread_key IS NOT NULL AND status < 3 AND status = 0 ORDER BY key LIMIT 1";
        let first = sqlx::query(sql).bind(thread_key).fetch_optional(&mut *self.conn).await?;
        let Some(first) = first else { return Ok(()) };
        let (key, announced_at): (i64, Option<i64>) = (first.try_get(0)?, first.try_get(1)?);
        if announced_at != Some(BLOCKED) {
            return Ok(());
        }
        let head = self.head_at(key).await?;
        let delayed = head.run_at.is_some_and(|run_at| run_at > micros(now));
        let announced_at = if delayed { None } else { Some(micros(now)) };
        let sql = "UPDATE tasks SET announced_at = $2 WHERE key = $1";
        self.execute(sqlx::query(sql).bind(key).bind(announced_at)).await?;
        if !delayed {
            transition.ready.push(head.ready());
        }
        Ok(())
    }

    /// Ends a task that has not ended: tells its parent, lets the next of its thread go, stops its sub-tasks.
    pub(crate) async fn end(
        &mut self,
        head: &Head,
        end: End,
        at: Timestamp,
        transition: &mut Transition,
    ) -> Written<()> {
        let orphans = self.end_one(head, end, at, transition).await?;
        self.stop_all(orphans, at, transition).await
    }

    /// Stops a task that has not ended: at once when no worker holds it, else its worker is told.
    pub(crate) async fn stop(&mut self, head: &Head, at: Timestamp, transition: &mut Transition) -> Written<()> {
        let orphans = self.stop_one(head, at, transition).await?;
        self.stop_all(orphans, at, transition).await
    }

    async fn stop_all(&mut self, mut orphans: Vec<i64>, at: Timestamp, transition: &mut Transition) -> Written<()> {
        while let Some(orphan) = orphans.pop() {
            let head = self.head_at(orphan).await?;
            orphans.extend(self.stop_one(&head, at, transition).await?);
        }
        Ok(())
    }

    async fn stop_one(&mut self, head: &Head, at: Timestamp, transition: &mut Transition) -> Written<Vec<i64>> {
        if head.status.is_terminal() {
            return Ok(Vec::new());
        }
        if head.status != TaskStatus::Running {
            return self.end_one(head, End::cancelled(), at, transition).await;
        }
        if !head.cancel {
            let sql = "UPDATE tasks SET cancel_requested = true WHERE key = $1";
            self.execute(sqlx::query(sql).bind(head.key)).await?;
        }
        transition.stopping.push(head.id);
        Ok(Vec::new())
    }

    /// Ends one task; returns its sub-tasks that are still alive.
    async fn end_one(
        &mut self,
        head: &Head,
        end: End,
        at: Timestamp,
        transition: &mut Transition,
    ) -> Written<Vec<i64>> {
        let End { status, failure, usage } = end;
        let usage = match usage {
            Some(usage) => usage,
            None => self.journal_usage(head.key).await?,
        };
        let from = (head.key, head.status, head.epoch);
        let changed = self.write_end(from, status, failure.as_ref(), usage, at).await?;
        expect_one(changed, head)?;
        match head.status {
            TaskStatus::Running => self.end_lease(head, at, transition).await?,
            TaskStatus::Queued if head.has_gates => self.leave_gates(head.id, at, transition).await?,
            TaskStatus::Waiting => {
                self.execute(sqlx::query("DELETE FROM waits WHERE task_key = $1").bind(head.key)).await?;
            }
            _ => {}
        }
        transition.ended.push((head.id, status));
        if head.parent.is_some() {
            let output = if status == TaskStatus::Succeeded { answer(self.conn, head.key).await? } else { None };
            let outcome = ChildOutcome { task: head.id, status, output, failure, usage };
            self.tell_parent(&outcome, at, transition).await?;
        }
        if let Some(thread_key) = head.thread_key {
            self.settle_thread(thread_key, at, transition).await?;
        }
        let sql = "SELECT key FROM tasks WHERE parent = $1 AND parent IS NOT NULL AND status < 3 ORDER BY key";
        self.keys(sqlx::query(sql).bind(head.id.0)).await
    }

    /// Writes how a task ended; returns how many rows that changed: none when its status or epoch is another.
    pub(crate) async fn write_end(
        &mut self,
        (key, from, epoch): (i64, TaskStatus, u32),
        status: TaskStatus,
        failure: Option<&Failure>,
        usage: Usage,
        at: Timestamp,
    ) -> Written<u64> {
        let failure = failure.map(serde_json::to_string).transpose();
        let failure = failure.map_err(|error| StateError::Corrupt(error.to_string()))?;
        let sql = "UPDATE tasks SET status = $4, finished_at = $5, failure = $6, input_tokens = $7, \
             output_tokens = $8, usage_estimated = $9, cached_input_tokens = $10, cache_write_tokens = $11, \
             reasoning_tokens = $12, cost = $13, worker = NULL, announced_at = NULL, cancel_requested = false \
             WHERE key = $1 AND status = $2 AND epoch = $3";
        let update = sqlx::query(sql)
            .bind(key)
            .bind(status_column(from))
            .bind(i64::from(epoch))
            .bind(status_column(status))
            .bind(micros(at))
            .bind(failure)
            .bind(usage.input_tokens as i64)
            .bind(usage.output_tokens as i64)
            .bind(usage.estimated)
            .bind(usage.cached_input_tokens as i64)
            .bind(usage.cache_write_tokens as i64)
            .bind(usage.reasoning_tokens as i64)
            .bind(usage.cost.0 as i64);
        self.execute(update).await
    }

    /// Resolves the wait for a sub-task, if there is one.
    async fn tell_parent(&mut self, outcome: &ChildOutcome, at: Timestamp, transition: &mut Transition) -> Written<()> {
        let child = outcome.task.0;
        let sql = "SELECT key FROM waits WHERE child = $1 AND child IS NOT NULL ORDER BY key";
        for wait in self.keys(sqlx::query(sql).bind(child)).await? {
            self.resolve(wait, Resolution::Child(outcome.clone()), at, transition).await?;
            self.execute(sqlx::query("UPDATE tasks SET told = true WHERE id = $1").bind(child)).await?;
        }
        Ok(())
    }

    /// Ends a wait: the journal says how, and the task goes on when it was the last one.
    pub(crate) async fn resolve(
        &mut self,
        wait: i64,
        by: Resolution,
        at: Timestamp,
        transition: &mut Transition,
    ) -> Written<()> {
        let sql = "DELETE FROM waits WHERE key = $1 RETURNING task_key, call_id";
        let deleted = sqlx::query(sql).bind(wait).fetch_one(&mut *self.conn).await?;
        let (task_key, call_id): (i64, String) = (deleted.try_get(0)?, deleted.try_get(1)?);
        let head = self.head_at(task_key).await?;
        if head.status != TaskStatus::Waiting {
            return Err(corrupt("a wait", format!("task {} is {}", head.id, head.status)).into());
        }
        self.append_own(task_key, &StepBody::Resolved { call_id, by }, at).await?;
        let sql = "SELECT 1 FROM waits WHERE task_key = $1 LIMIT 1";
        if !self.exists(sqlx::query(sql).bind(task_key)).await? {
            self.queue(&head, None, at, transition).await?;
        }
        Ok(())
    }

    /// How a sub-task ended, for a parent that was not told yet.
    pub(crate) async fn outcome(&mut self, child: &Head) -> Written<ChildOutcome> {
        let row = sqlx::query(rows::USAGE).bind(child.key).fetch_one(&mut *self.conn).await?;
        let usage = rows::usage(&row, [0, 1, 2, 3, 4, 5, 6])?;
        let output = if child.status == TaskStatus::Succeeded { answer(self.conn, child.key).await? } else { None };
        Ok(ChildOutcome { task: child.id, status: child.status, output, failure: child.failure.clone(), usage })
    }

    /// Adds up what a journal's model calls and sub-tasks used.
    async fn journal_usage(&mut self, task_key: i64) -> Written<Usage> {
        let mut usage = Usage::default();
        let journal = sqlx::query(rows::JOURNAL).bind(step_place(task_key, 0)).bind(step_place(task_key + 1, 0));
        for row in journal.fetch_all(&mut *self.conn).await? {
            match rows::raw_step(&row)?.decode()?.body {
                StepBody::Model(model) => usage += model.total_usage(),
                StepBody::Resolved { by: Resolution::Child(child), .. } => usage += child.usage,
                _ => {}
            }
        }
        Ok(usage)
    }
}

/// Says that the row was not what the caller had just read.
fn expect_one(changed: u64, head: &Head) -> Written<()> {
    if changed == 1 {
        return Ok(());
    }
    Err(StateError::LeaseLost { task: head.id, epoch: head.epoch }.into())
}

/// Finds a journal's last model step, as a value.
pub(crate) async fn answer(conn: &mut PgConnection, task_key: i64) -> Written<Option<Value>> {
    // A portion at a time: the answer is nearly always in the last steps.
    let mut before = step_place(task_key + 1, 0);
    loop {
        let steps = sqlx::query(JOURNAL_BACKWARD).bind(step_place(task_key, 0)).bind(before);
        let steps = steps.bind(ANSWER_PORTION).fetch_all(&mut *conn).await?;
        for row in &steps {
            let raw = rows::raw_step(row)?;
            before = raw.place;
            let step: Step = raw.decode()?;
            if let StepBody::Model(model) = step.body {
                return Ok(Some(model.output()));
            }
        }
        if steps.len() < ANSWER_PORTION as usize {
            return Ok(None);
        }
    }
}

/// Lists the last steps of a range of places, the last first.
const JOURNAL_BACKWARD: &str = "SELECT place, epoch, at, enc, body FROM steps \
     WHERE place >= $1 AND place < $2 ORDER BY place DESC LIMIT $3";
/// How many steps are read at once in search of an answer.
const ANSWER_PORTION: i64 = 4;
