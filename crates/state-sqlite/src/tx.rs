//! The open transaction, and the changes of status that several operations share.

use domain::{
    Amount, ChildOutcome, Clock, Failure, Namespace, Resolution, Step, StepBody, Task, TaskId, TaskStatus, Timestamp,
    Usage,
};
use rusqlite::types::Null;
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Params, params};
use serde_json::Value;
use state::{StateError, Transition};

use crate::fault::{Fault, Written};
use crate::leases::Leases;
use crate::ops::budget;
use crate::rows::{self, Head, TaskRow};
use state::codec::{Body, STEPS_MAX, corrupt, micros, status_column, step_place, step_seq};

/// `announced_at` of a queued task that must wait for an earlier one of its thread.
pub(crate) const BLOCKED: i64 = i64::MAX;
/// `announced_at` of a queued task that one of its gates holds back.
pub(crate) const HELD: i64 = BLOCKED - 1;

/// A step, encoded by whoever writes it, so that the writer only copies bytes.
#[derive(Debug)]
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

/// The transaction that is open; one for all operations of a batch.
pub(crate) struct Tx<'a> {
    pub(crate) conn: &'a Connection,
    pub(crate) leases: &'a Leases,
    pub(crate) clock: &'a dyn Clock,
    /// Bodies above this many bytes are compressed.
    pub(crate) threshold: usize,
}

impl Tx<'_> {
    /// Prepares a statement, once a connection.
    pub(crate) fn statement(&self, sql: &str) -> Written<CachedStatement<'_>> {
        Ok(self.conn.prepare_cached(sql)?)
    }

    /// Runs a statement; returns how many rows it changed.
    pub(crate) fn execute(&self, sql: &str, params: impl Params) -> Written<usize> {
        Ok(self.statement(sql)?.execute(params)?)
    }

    /// Finds a task's head.
    pub(crate) fn head(&self, id: TaskId) -> Written<Option<Head>> {
        self.find_head(rows::HEAD_BY_ID, params![id.0.as_bytes()])
    }

    /// Finds a task's head by its row.
    pub(crate) fn head_at(&self, key: i64) -> Written<Head> {
        self.find_head(rows::HEAD_BY_KEY, params![key])?
            .ok_or_else(|| corrupt("a task's row", format!("{key} is missing")).into())
    }

    /// Finds a task's head in its namespace.
    pub(crate) fn head_in(&self, namespace: &Namespace, id: TaskId) -> Written<Head> {
        let found = self.find_head(rows::HEAD_IN_NAMESPACE, params![id.0.as_bytes(), namespace.as_str()])?;
        found.ok_or(Fault::Refused(StateError::UnknownTask { task: id }))
    }

    fn find_head(&self, sql: &str, params: impl Params) -> Written<Option<Head>> {
        let mut statement = self.statement(sql)?;
        let mut found = statement.query(params)?;
        found.next()?.map(rows::head).transpose()
    }

    /// Lists the heads of some rows.
    pub(crate) fn heads(&self, keys: &[i64]) -> Written<Vec<Head>> {
        keys.iter().map(|key| self.head_at(*key)).collect()
    }

    /// Lists the keys that a statement selects.
    pub(crate) fn keys(&self, sql: &str, params: impl Params) -> Written<Vec<i64>> {
        let mut statement = self.statement(sql)?;
        let keys = statement.query_map(params, |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(keys)
    }

    /// Finds a whole task.
    pub(crate) fn task(&self, id: TaskId) -> Written<Option<TaskRow>> {
        let mut statement = self.statement(rows::FIND_TASK)?;
        let mut found = statement.query(params![id.0.as_bytes()])?;
        found.next()?.map(rows::task).transpose()
    }

    /// Finds a task that must be there.
    pub(crate) fn known_task(&self, id: TaskId) -> Written<Task> {
        Ok(self.task(id)?.ok_or(StateError::UnknownTask { task: id })?.task)
    }

    /// The number of a journal's next step.
    pub(crate) fn next_seq(&self, task_key: i64) -> Written<u32> {
        let sql = "SELECT max(place) FROM steps WHERE place >= ?1 AND place < ?2";
        let range = params![step_place(task_key, 0), step_place(task_key + 1, 0)];
        let last: Option<i64> = self.statement(sql)?.query_row(range, |row| row.get(0))?;
        Ok(last.map_or(0, |key| step_seq(key) + 1))
    }

    /// Appends a step that no worker wrote.
    pub(crate) fn append_own(&self, task_key: i64, body: &StepBody, at: Timestamp) -> Written<()> {
        let seq = self.next_seq(task_key)?;
        if seq >= STEPS_MAX {
            return Err(StateError::TooLarge(format!("a journal has at most {STEPS_MAX} steps")).into());
        }
        let body = Body::encode_own(body, self.threshold, "a step")?;
        let sql = "INSERT INTO steps (place, epoch, at, enc, body) VALUES (?1, 0, ?2, ?3, ?4)";
        self.execute(sql, params![step_place(task_key, seq), micros(at), body.enc, body.bytes])?;
        Ok(())
    }

    /// Queues a task that was running, waiting or ended.
    ///
    /// The caller has checked that it may; a task of a thread is queued behind the earlier ones.
    pub(crate) fn queue(
        &self,
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
        let sql = "UPDATE tasks SET status = 0, worker = NULL, run_at = ?4, announced_at = ?5 \
             WHERE key = ?1 AND status = ?2 AND epoch = ?3";
        let from = status_column(head.status);
        let changed = self.execute(sql, params![head.key, from, head.epoch, run_at.map(micros), announced_at])?;
        self.expect_one(changed, head)?;
        if head.status == TaskStatus::Running {
            self.end_lease(head.id, now, transition)?;
        }
        match head.thread_key {
            Some(thread_key) => self.settle_thread(thread_key, now, transition)?,
            None if delayed => {}
            None => transition.ready.push(head.ready()),
        }
        Ok(())
    }

    /// Ends a lease: what is still reserved under it counts as spent, and its places are free for others.
    pub(crate) fn end_lease(&self, task: TaskId, now: Timestamp, transition: &mut Transition) -> Written<()> {
        if let Some(held) = self.leases.remove(task)
            && held.reserved > 0
        {
            budget::forfeit(self, held.key)?;
        }
        self.leave_gates(task, now, transition)
    }

    /// Lets the first task of a thread go, unless one is under way.
    pub(crate) fn settle_thread(&self, thread_key: i64, now: Timestamp, transition: &mut Transition) -> Written<()> {
        let sql = "SELECT 1 FROM tasks WHERE thread_key = ?1 AND status < 3 AND status > 0 LIMIT 1";
        if self.statement(sql)?.exists(params![thread_key])? {
            return Ok(());
        }
        let sql = "SELECT key, announced_at FROM tasks \
             WHERE thread_key = ?1 AND thread_key IS NOT NULL AND status < 3 AND status = 0 ORDER BY key LIMIT 1";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let first: Option<(i64, Option<i64>)> = self.statement(sql)?.query_row(params![thread_key], read).optional()?;
        let Some((key, Some(BLOCKED))) = first else { return Ok(()) };
        let head = self.head_at(key)?;
        let delayed = head.run_at.is_some_and(|run_at| run_at > micros(now));
        let announced_at = if delayed { None } else { Some(micros(now)) };
        self.execute("UPDATE tasks SET announced_at = ?2 WHERE key = ?1", params![key, announced_at])?;
        if !delayed {
            transition.ready.push(head.ready());
        }
        Ok(())
    }

    /// Ends a task that has not ended: tells its parent, lets the next of its thread go, stops its sub-tasks.
    pub(crate) fn end(&self, head: &Head, end: End, at: Timestamp, transition: &mut Transition) -> Written<()> {
        let mut orphans = self.end_one(head, end, at, transition)?;
        while let Some(orphan) = orphans.pop() {
            orphans.extend(self.stop_one(&self.head_at(orphan)?, at, transition)?);
        }
        Ok(())
    }

    /// Stops a task that has not ended: at once when no worker holds it, else its worker is told.
    pub(crate) fn stop(&self, head: &Head, at: Timestamp, transition: &mut Transition) -> Written<()> {
        let mut orphans = self.stop_one(head, at, transition)?;
        while let Some(orphan) = orphans.pop() {
            orphans.extend(self.stop_one(&self.head_at(orphan)?, at, transition)?);
        }
        Ok(())
    }

    fn stop_one(&self, head: &Head, at: Timestamp, transition: &mut Transition) -> Written<Vec<i64>> {
        if head.status.is_terminal() {
            return Ok(Vec::new());
        }
        if head.status != TaskStatus::Running {
            return self.end_one(head, End::cancelled(), at, transition);
        }
        if !head.cancel {
            self.execute("UPDATE tasks SET cancel_requested = 1 WHERE key = ?1", params![head.key])?;
            self.leases.update(head.id, |held| held.cancel = true);
        }
        transition.stopping.push(head.id);
        Ok(Vec::new())
    }

    /// Ends one task; returns its sub-tasks that are still alive.
    fn end_one(&self, head: &Head, end: End, at: Timestamp, transition: &mut Transition) -> Written<Vec<i64>> {
        let End { status, failure, usage } = end;
        let usage = match usage {
            Some(usage) => usage,
            None => self.journal_usage(head.key)?,
        };
        let from = (head.key, head.status, head.epoch);
        let changed = self.write_end(from, status, failure.as_ref(), usage, at)?;
        self.expect_one(changed, head)?;
        match head.status {
            TaskStatus::Running => self.end_lease(head.id, at, transition)?,
            TaskStatus::Queued => self.leave_gates(head.id, at, transition)?,
            TaskStatus::Waiting => {
                self.execute("DELETE FROM waits WHERE task_key = ?1", params![head.key])?;
            }
            _ => {}
        }
        transition.ended.push((head.id, status));
        if head.parent.is_some() {
            let output = if status == TaskStatus::Succeeded { self.answer(head.key)? } else { None };
            let outcome = ChildOutcome { task: head.id, status, output, failure, usage };
            self.tell_parent(&outcome, at, transition)?;
        }
        if let Some(thread_key) = head.thread_key {
            self.settle_thread(thread_key, at, transition)?;
        }
        let sql = "SELECT key FROM tasks WHERE parent = ?1 AND parent IS NOT NULL AND status < 3";
        self.keys(sql, params![head.id.0.as_bytes()])
    }

    /// Writes how a task ended; returns how many rows that changed: none when its status or epoch is another.
    pub(crate) fn write_end(
        &self,
        (key, from, epoch): (i64, TaskStatus, u32),
        status: TaskStatus,
        failure: Option<&Failure>,
        usage: Usage,
        at: Timestamp,
    ) -> Written<usize> {
        let failure = failure.map(serde_json::to_string).transpose();
        let failure = failure.map_err(|error| StateError::Corrupt(error.to_string()))?;
        let sql = "UPDATE tasks SET status = ?4, finished_at = ?5, failure = ?6, input_tokens = ?7, \
             output_tokens = ?8, usage_estimated = ?9, cached_input_tokens = ?10, cache_write_tokens = ?11, \
             reasoning_tokens = ?12, cost = ?13, worker = NULL, announced_at = NULL, cancel_requested = 0 \
             WHERE key = ?1 AND status = ?2 AND epoch = ?3";
        self.execute(
            sql,
            params![
                key,
                status_column(from),
                epoch,
                status_column(status),
                micros(at),
                failure,
                usage.input_tokens as i64,
                usage.output_tokens as i64,
                usage.estimated,
                usage.cached_input_tokens as i64,
                usage.cache_write_tokens as i64,
                usage.reasoning_tokens as i64,
                usage.cost.0 as i64
            ],
        )
    }

    /// Tells whether a task has sub-tasks that are still alive.
    pub(crate) fn has_children(&self, id: TaskId) -> Written<bool> {
        let sql = "SELECT 1 FROM tasks WHERE parent = ?1 AND parent IS NOT NULL AND status < 3 LIMIT 1";
        Ok(self.statement(sql)?.exists(params![id.0.as_bytes()])?)
    }

    /// Resolves the wait for a sub-task, if there is one.
    fn tell_parent(&self, outcome: &ChildOutcome, at: Timestamp, transition: &mut Transition) -> Written<()> {
        let child = outcome.task;
        let sql = "SELECT key FROM waits WHERE child = ?1 AND child IS NOT NULL";
        for wait in self.keys(sql, params![child.0.as_bytes()])? {
            self.resolve(wait, Resolution::Child(outcome.clone()), at, transition)?;
            self.execute("UPDATE tasks SET told = 1 WHERE id = ?1", params![child.0.as_bytes()])?;
        }
        Ok(())
    }

    /// Ends a wait: the journal says how, and the task goes on when it was the last one.
    pub(crate) fn resolve(&self, wait: i64, by: Resolution, at: Timestamp, transition: &mut Transition) -> Written<()> {
        let sql = "DELETE FROM waits WHERE key = ?1 RETURNING task_key, call_id";
        let (task_key, call_id): (i64, String) =
            self.statement(sql)?.query_row(params![wait], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let head = self.head_at(task_key)?;
        if head.status != TaskStatus::Waiting {
            return Err(corrupt("a wait", format!("task {} is {}", head.id, head.status)).into());
        }
        self.append_own(task_key, &StepBody::Resolved { call_id, by }, at)?;
        let sql = "SELECT 1 FROM waits WHERE task_key = ?1 LIMIT 1";
        if !self.statement(sql)?.exists(params![task_key])? {
            self.queue(&head, None, at, transition)?;
        }
        Ok(())
    }

    /// How a sub-task ended, for a parent that was not told yet.
    pub(crate) fn outcome(&self, child: &Head) -> Written<ChildOutcome> {
        let read = |row: &rusqlite::Row<'_>| rows::usage(row, [0, 1, 2, 3, 4, 5, 6]);
        let usage = self.statement(rows::USAGE)?.query_row(params![child.key], read)?;
        let output = if child.status == TaskStatus::Succeeded { self.answer(child.key)? } else { None };
        Ok(ChildOutcome { task: child.id, status: child.status, output, failure: child.failure.clone(), usage })
    }

    fn answer(&self, task_key: i64) -> Written<Option<Value>> {
        answer(self.conn, task_key)
    }

    /// Adds up what a journal's model calls and sub-tasks used.
    fn journal_usage(&self, task_key: i64) -> Written<Usage> {
        let mut usage = Usage::default();
        let mut statement = self.statement(rows::JOURNAL)?;
        let mut found = statement.query(params![step_place(task_key, 0), step_place(task_key + 1, 0)])?;
        while let Some(row) = found.next()? {
            match rows::raw_step(row)?.decode()?.body {
                StepBody::Model(model) => usage += model.total_usage(),
                StepBody::Resolved { by: Resolution::Child(child), .. } => usage += child.usage,
                _ => {}
            }
        }
        Ok(usage)
    }

    /// Says that the row was not what the caller had just read.
    fn expect_one(&self, changed: usize, head: &Head) -> Written<()> {
        if changed == 1 {
            return Ok(());
        }
        self.leases.remove(head.id);
        Err(StateError::LeaseLost { task: head.id, epoch: head.epoch }.into())
    }

    /// Deletes rows of a task that only matter while it exists.
    pub(crate) fn forget(&self, task_key: i64) -> Written<usize> {
        self.execute("DELETE FROM waits WHERE task_key = ?1", params![task_key])?;
        self.execute("DELETE FROM signals WHERE task_key = ?1", params![task_key])?;
        let range = params![step_place(task_key, 0), step_place(task_key + 1, 0)];
        let steps = self.execute("DELETE FROM steps WHERE place >= ?1 AND place < ?2", range)?;
        self.execute("DELETE FROM tasks WHERE key = ?1", params![task_key])?;
        Ok(steps)
    }

    /// Makes every queued task be announced anew.
    pub(crate) fn clear_announcements(&self) -> Written<()> {
        let sql = "UPDATE tasks SET announced_at = ?1 \
             WHERE status < 3 AND status = 0 AND announced_at IS NOT NULL AND announced_at < ?2";
        self.execute(sql, params![Null, HELD])?;
        Ok(())
    }
}

/// Finds a journal's last model step, as a value.
pub(crate) fn answer(conn: &Connection, task_key: i64) -> Written<Option<Value>> {
    let mut statement = conn.prepare_cached(rows::JOURNAL_BACKWARD)?;
    let mut found = statement.query(params![step_place(task_key, 0), step_place(task_key + 1, 0)])?;
    while let Some(row) = found.next()? {
        let step: Step = rows::raw_step(row)?.decode()?;
        if let StepBody::Model(model) = step.body {
            return Ok(Some(model.output()));
        }
    }
    Ok(None)
}
