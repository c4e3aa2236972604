//! Watching a task: its journal from any point, then what happens, without gaps.
//!
//! Events are hints. Whatever they leave out (steps that the record itself wrote, events that were lost) is read from
//! the journal: at the start, when a number is missing, when something ends, and every few seconds in any case.

use std::collections::VecDeque;

use bus::{BusError, Received};
use common::problem::{self, Kind, Problem};
use domain::{BudgetLevel, Delta, EventBody, Namespace, StepBody, Task, TaskId, TaskStatus};
use futures::StreamExt;
use futures::stream::BoxStream;
use state::StateError;
use wire::{BudgetEvent, ProgressEvent};

use super::feed::{Feed, InvalidResume, Resume, Told};
use super::tasks::{TaskError, Tasks};

/// How many steps are read at once: a step may be large, and a reader slow.
const PAGE: u32 = 32;

/// Why a task cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The place to resume from does not exist.
    #[error(transparent)]
    Resume(#[from] InvalidResume),
    /// The task cannot be read.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// Events cannot be heard.
    #[error("could not listen to events")]
    Bus(#[from] BusError),
    /// Too many watch already.
    #[error("{limit} event streams are open, no more are allowed")]
    TooMany {
        /// How many may.
        limit: u32,
    },
}

impl From<StateError> for WatchError {
    fn from(error: StateError) -> Self {
        Self::Task(error.into())
    }
}

impl From<WatchError> for Problem {
    fn from(error: WatchError) -> Self {
        let text = error.to_string();
        match error {
            WatchError::Resume(_) => Self::invalid("header.Last-Event-ID", text),
            WatchError::Task(error) => error.into(),
            WatchError::Bus(error) => {
                tracing::warn!(%error, "events cannot be heard");
                Self::new(Kind::Unavailable).detail(text).retry_after(std::time::Duration::from_secs(1))
            }
            WatchError::TooMany { .. } => {
                Self::new(Kind::Overloaded).detail(text).retry_after(std::time::Duration::from_secs(5))
            }
        }
    }
}

impl utoipa::IntoResponses for WatchError {
    fn responses() -> problem::Responses {
        problem::responses(&[Kind::InvalidRequest, Kind::UnknownTask, Kind::Overloaded, Kind::Unavailable])
    }
}

/// One watcher of one task.
pub struct Watch {
    tasks: Tasks,
    namespace: Namespace,
    task: TaskId,
    feed: Feed,
    live: BoxStream<'static, Received>,
    /// Pieces that wait until the steps before them were told.
    pending: Vec<Delta>,
    out: VecDeque<Told>,
    /// The record as it was before the journal was read: if it had ended, that journal is whole.
    seen: Option<Task>,
    /// A status that was told by an event, and may be newer than what the record shows.
    heard: Option<TaskStatus>,
    behind: bool,
    done: bool,
}

impl Tasks {
    /// Begins to watch a task from its start, or from where the watcher stopped.
    pub async fn watch(
        &self,
        namespace: &Namespace,
        task: TaskId,
        resume: Option<Resume>,
    ) -> Result<Watch, WatchError> {
        self.find(namespace, task).await?;
        let feed = Feed::new(task, resume);
        if let Some(told) = feed.next_step().checked_sub(1)
            && self.inner.state.journal(namespace, task, told, 1).await?.is_empty()
        {
            return Err(InvalidResume.into());
        }
        // Listening begins before the record is read, so that nothing falls between the two.
        let events = self.inner.events.subscribe_task(task).await?;
        let mut watch = Watch {
            tasks: self.clone(),
            namespace: namespace.clone(),
            task,
            feed,
            live: events.live,
            pending: events.backlog,
            out: VecDeque::new(),
            seen: None,
            heard: None,
            behind: true,
            done: false,
        };
        if resume == Some(Resume::End) {
            let found = self.find(namespace, task).await?;
            if found.status.is_terminal() {
                watch.finish(found).await?;
            } else {
                watch.feed.skip_to(self.last_retry(namespace, task).await?);
            }
        }
        Ok(watch)
    }

    /// Finds where the life after the last end begins.
    async fn last_retry(&self, namespace: &Namespace, task: TaskId) -> Result<u32, StateError> {
        let (mut from, mut last) = (0, 0);
        loop {
            let steps = self.inner.state.journal(namespace, task, from, PAGE).await?;
            for step in &steps {
                from = step.seq.saturating_add(1);
                if matches!(step.body, StepBody::Retried { .. }) {
                    last = step.seq;
                }
            }
            if steps.len() < PAGE as usize {
                return Ok(last);
            }
        }
    }
}

impl Watch {
    /// Waits for the next thing to tell; `None` after the end.
    pub async fn next(&mut self) -> Result<Option<Told>, StateError> {
        loop {
            if let Some(told) = self.out.pop_front() {
                return Ok(Some(told));
            }
            if self.done {
                return Ok(None);
            }
            if self.behind {
                self.catch_up().await?;
                continue;
            }
            tokio::select! {
                received = self.live.next() => match received {
                    Some(Received::Event(event)) => self.hear(&event.body),
                    Some(Received::Missed) => self.listen_again().await,
                    None => self.live = futures::stream::pending().boxed(),
                },
                () = tokio::time::sleep(self.tasks.inner.poll) => self.behind = true,
            }
        }
    }

    fn hear(&mut self, event: &EventBody) {
        match event {
            EventBody::TaskStep { step, .. } => {
                let whole = self.feed.step(domain::Step::clone(step), &mut self.out);
                self.behind |= !whole;
            }
            EventBody::TaskDelta { delta, .. } if self.feed.lacks_steps_before(delta) => {
                self.pending.push(delta.clone());
                self.behind = true;
            }
            EventBody::TaskDelta { delta, .. } => self.feed.delta(delta, &mut self.out),
            EventBody::TaskStatus { status, .. } => {
                self.heard = Some(*status);
                self.behind = true;
            }
            EventBody::TaskFinished { .. } | EventBody::CancelRequested { .. } => self.behind = true,
            EventBody::ToolProgress { call_id, message, fraction, .. } => {
                let (call_id, message) = (call_id.clone(), message.clone());
                self.out.push_back(Told::Progress(ProgressEvent { call_id, message, fraction: *fraction }));
            }
            EventBody::BudgetWarning { level, .. } => self.out.push_back(Told::Budget(self.warning(level))),
            EventBody::TaskCreated { .. } | EventBody::AgentUpdated { .. } | EventBody::PoolReport { .. } => {}
        }
    }

    fn warning(&self, level: &BudgetLevel) -> BudgetEvent {
        BudgetEvent {
            id: self.task,
            account: level.account.key.clone(),
            window: level.account.window,
            what: level.what.as_str().to_owned(),
            limit: level.what.show(level.limit),
            used: level.what.show(level.spent.saturating_add(level.reserved).saturating_add(level.asked)),
        }
    }

    /// Listens anew after events were missed: the pieces of the answer that is being spoken come again.
    async fn listen_again(&mut self) {
        if let Ok(events) = self.tasks.inner.events.subscribe_task(self.task).await {
            self.live = events.live;
            self.pending = events.backlog;
        }
        self.behind = true;
    }

    /// Tells one page of the journal; after the last one, the status and the pieces that waited for it.
    async fn catch_up(&mut self) -> Result<(), StateError> {
        let state = &self.tasks.inner.state;
        if self.seen.is_none() {
            let Some(task) = state.task(&self.namespace, self.task).await? else {
                // Retention deleted it while it was watched.
                self.done = true;
                return Ok(());
            };
            self.seen = Some(task);
        }
        let steps = state.journal(&self.namespace, self.task, self.feed.next_step(), PAGE).await?;
        let last_page = steps.len() < PAGE as usize;
        for step in steps {
            self.feed.step(step, &mut self.out);
        }
        let (true, Some(task)) = (last_page, self.seen.take_if(|_| last_page)) else { return Ok(()) };
        self.behind = false;
        if task.status.is_terminal() {
            return self.finish(task).await;
        }
        let status = self.heard.take().unwrap_or(task.status);
        self.feed.status(status, task.cancel_requested, &mut self.out);
        for delta in std::mem::take(&mut self.pending) {
            self.feed.delta(&delta, &mut self.out);
        }
        Ok(())
    }

    async fn finish(&mut self, task: Task) -> Result<(), StateError> {
        let view = self.tasks.view(task).await?;
        self.out.push_back(Told::Finished(Box::new(view)));
        self.done = true;
        Ok(())
    }
}
