//! Tasks from the outside: submit, look, wait, cancel, signal, retry.
//!
//! Every change is first committed to the record and then announced; a process that dies in between loses nothing, as
//! the sweeper announces what the record holds.

use std::sync::Arc;
use std::time::Duration;

use agent::Announcer;
use blob::Blobs;
use bus::Events;
use common::problem::{self, Fault, Kind, Problem};
use common::telemetry::LabelSet;
use domain::{Clock, Ids, Namespace, PlatformLimits, Step, Task, TaskId, TaskStatus};
use metrics::counter;
use serde_json::Value;
use state::agents::Agents;
use state::{Page, Signal, State, StateError, StateStats, Submitted, TaskFilter};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, info};
use wire::{SignalBody, TaskView, WaitingFor};

use super::decisions::is_reserved;
use super::ends::Ends;
use super::room::Room;
use super::submission::{self, Faults, LABEL_MAX, Submission, SubmitError, TEXT_MAX};
use super::waiting::{self, OpenWaits};
use crate::{Config, Deps};

/// How many steps are read at once where a whole journal is looked through.
pub(super) const JOURNAL_PAGE: u32 = 256;
const SIGNAL_NAME_MAX: usize = 255;
/// How many agents have their own label in the metrics; the others share one.
const AGENT_LABELS: usize = 200;

/// The use cases around tasks. Clones share everything.
#[derive(Clone)]
pub struct Tasks {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) state: Arc<dyn State>,
    agents: Arc<Agents>,
    pub(super) announcer: Announcer,
    pub(super) blobs: Arc<dyn Blobs>,
    pub(super) events: Arc<dyn Events>,
    pub(super) clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    limits: Arc<PlatformLimits>,
    room: Room,
    ends: Arc<Ends>,
    announcing: TaskTracker,
    labels: LabelSet,
    pub(super) poll: Duration,
}

/// Why a task cannot be shown or changed.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// It does not exist.
    #[error("task {task} does not exist")]
    Unknown {
        /// The task.
        task: TaskId,
    },
    /// The record refused, or could not be reached.
    #[error("the record refused the task")]
    State(#[from] StateError),
}

impl From<TaskError> for Problem {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Unknown { task } => StateError::UnknownTask { task }.into(),
            TaskError::State(error) => error.into(),
        }
    }
}

impl utoipa::IntoResponses for TaskError {
    fn responses() -> problem::Responses {
        problem::responses(&[
            Kind::InvalidRequest,
            Kind::UnknownTask,
            Kind::TaskEnded,
            Kind::TaskConflict,
            Kind::Unavailable,
        ])
    }
}

/// Why a journal cannot be shown.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct JournalError(#[from] pub TaskError);

impl From<JournalError> for Problem {
    fn from(error: JournalError) -> Self {
        error.0.into()
    }
}

impl utoipa::IntoResponses for JournalError {
    fn responses() -> problem::Responses {
        problem::responses(&[Kind::InvalidRequest, Kind::InvalidCursor, Kind::UnknownTask, Kind::Unavailable])
    }
}

/// Why a signal was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// The request breaks rules.
    #[error("the signal has {} fault(s)", .0.len())]
    Invalid(Vec<Fault>),
    /// The name is that of a decision, which has an endpoint of its own.
    #[error("signals named {name:?} are decisions of people, which come by `/approvals` and `/budget` alone")]
    Reserved {
        /// The name.
        name: String,
    },
    /// The value is too large.
    #[error("the value has {bytes} bytes, {TEXT_MAX} are allowed")]
    TooLarge {
        /// How large it is.
        bytes: usize,
    },
    /// The task did not take it.
    #[error(transparent)]
    Task(#[from] TaskError),
}

impl From<StateError> for SignalError {
    fn from(error: StateError) -> Self {
        Self::Task(error.into())
    }
}

impl From<SignalError> for Problem {
    fn from(error: SignalError) -> Self {
        let text = error.to_string();
        match error {
            SignalError::Invalid(errors) => Problem { errors, ..Problem::new(Kind::InvalidRequest) },
            SignalError::Reserved { .. } => Problem::new(Kind::ReservedSignal).detail(text),
            SignalError::TooLarge { .. } => Problem::new(Kind::TooLarge).detail(text).fault("/value", "is too large"),
            SignalError::Task(error) => error.into(),
        }
    }
}

impl utoipa::IntoResponses for SignalError {
    fn responses() -> problem::Responses {
        problem::responses(&[
            Kind::InvalidRequest,
            Kind::ReservedSignal,
            Kind::UnsupportedMediaType,
            Kind::BodyTooLarge,
            Kind::TooLarge,
            Kind::UnknownTask,
            Kind::TaskEnded,
            Kind::Unavailable,
        ])
    }
}

impl Tasks {
    /// Makes the use cases; call it once a process, as its clones share their counts.
    pub fn new(config: &Config, deps: &Deps) -> Self {
        let room = Room::new(config.orchestrator_max_queued_tasks, Arc::clone(&deps.state), Arc::clone(&deps.clock));
        let inner = Inner {
            state: Arc::clone(&deps.state),
            agents: Arc::clone(&deps.agents),
            announcer: deps.announcer(),
            blobs: Arc::clone(&deps.blobs),
            events: Arc::clone(&deps.events),
            clock: Arc::clone(&deps.clock),
            ids: Arc::clone(&deps.ids),
            limits: Arc::clone(&deps.limits),
            room,
            ends: Arc::default(),
            announcing: TaskTracker::new(),
            labels: LabelSet::new(AGENT_LABELS),
            poll: config.orchestrator_stream_poll.0,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Records a task and has it announced. When it is answered, the task is committed.
    ///
    /// The same key with the same request names the first task. Safe to repeat with a key, and only then.
    pub async fn submit(
        &self,
        namespace: &Namespace,
        submission: impl Into<Submission>,
    ) -> Result<Submitted, SubmitError> {
        let inner = &*self.inner;
        let accepted = submission::check(submission.into(), &*inner.clock)?;
        let name = accepted.agent();
        let Some(agent) = inner.agents.active(namespace, name).await? else {
            let similar = super::agents::similar(&inner.agents, namespace, name).await;
            return Err(SubmitError::UnknownAgent { agent: name.clone(), similar });
        };
        if let Some(queued) = inner.room.full().await? {
            counter!("tasks_refused_total", "reason" => "overloaded").increment(1);
            return Err(SubmitError::Overloaded { queued, limit: inner.room.limit() });
        }
        let task = accepted.into_task(namespace, &agent, &inner.limits, &*inner.ids);
        let id = task.id;
        inner.ends.submitting(namespace, id);
        failpoint::hit("C01");
        let submitted = inner.state.submit(task).await.inspect_err(|_| inner.ends.not_submitted(id))?;
        failpoint::hit("C03");
        if submitted.task.id != id {
            inner.ends.not_submitted(id);
        }
        if submitted.created {
            let label = inner.labels.bound(submitted.task.agent.as_str());
            counter!("tasks_submitted_total", "agent" => label).increment(1);
            inner.room.took_one();
            failpoint::hit("C04");
            // Nobody waits for the hint: the task is committed, and whatever the hint is lost to, the sweeper repeats it.
            let (announcer, task) = (inner.announcer.clone(), submitted.task.clone());
            inner.announcing.spawn(async move { announcer.created(&task).await }.in_current_span());
        }
        Ok(submitted)
    }

    /// Waits until what was submitted is announced, as far as the queue takes it.
    pub(crate) async fn announced(&self) {
        self.inner.announcing.close();
        self.inner.announcing.wait().await;
    }

    /// Shows one task, with its output or what it waits for.
    pub async fn get(&self, namespace: &Namespace, task: TaskId) -> Result<TaskView, TaskError> {
        let (task, answer) = self.find_with_answer(namespace, task).await?;
        Ok(self.view_with(task, answer).await?)
    }

    /// Shows one task as soon as it has ended, or as it is after `patience`.
    pub async fn wait(&self, namespace: &Namespace, id: TaskId, patience: Duration) -> Result<TaskView, TaskError> {
        let give_up = Instant::now() + patience;
        // It begins before the record is read: what ended before is seen there, what ends later is told.
        let mut waiting = self.inner.ends.wait(namespace, id);
        let mut look = !waiting.goes_on;
        loop {
            if look {
                let (task, answer) = self.find_with_answer(namespace, id).await?;
                if task.status.is_terminal() || Instant::now() >= give_up {
                    return Ok(self.view_with(task, answer).await?);
                }
            }
            look = true;
            tokio::select! {
                () = waiting.told() => {}
                () = tokio::time::sleep(self.inner.poll) => {}
                () = tokio::time::sleep_until(give_up) => {}
            }
        }
    }

    /// Lists tasks, the newest first.
    pub async fn list(
        &self,
        namespace: &Namespace,
        filter: TaskFilter,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Page<TaskView>, TaskError> {
        let page = self.inner.state.tasks(namespace, filter, after, limit).await?;
        Ok(Page { items: page.items.into_iter().map(TaskView::from).collect(), more: page.more })
    }

    /// Lists a task's journal from `from`, in order, and tells whether there is more.
    pub async fn journal(
        &self,
        namespace: &Namespace,
        task: TaskId,
        from: u32,
        limit: u32,
    ) -> Result<Page<Step>, JournalError> {
        let mut items = self.journal_or_unknown(namespace, task, from, limit.saturating_add(1)).await?;
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        Ok(Page { items, more })
    }

    /// Asks a task to stop: at once when no worker holds it, else its worker is told.
    pub async fn cancel(&self, namespace: &Namespace, task: TaskId) -> Result<TaskView, TaskError> {
        let cancelled = self.inner.state.cancel(namespace, task).await?;
        failpoint::hit("C29");
        info!(task.id = %task, status = %cancelled.task.status, "task cancelled");
        self.inner.announcer.transition(namespace, &cancelled.transition).await;
        Ok(self.view(cancelled.task).await?)
    }

    /// Delivers a named value to a task; the same `key` again changes nothing.
    pub async fn signal(
        &self,
        namespace: &Namespace,
        task: TaskId,
        body: SignalBody,
        key: Option<&str>,
    ) -> Result<TaskView, SignalError> {
        let mut faults = Faults::default();
        faults.label("/name", &body.name, 1, SIGNAL_NAME_MAX);
        if let Some(from) = &body.from {
            faults.label("/from", from, 1, LABEL_MAX);
        }
        let key = faults.key(key, None);
        if !faults.0.is_empty() {
            return Err(SignalError::Invalid(faults.0));
        }
        if is_reserved(&body.name) {
            return Err(SignalError::Reserved { name: body.name });
        }
        let bytes = serde_json::to_vec(&body.value).map_or(usize::MAX, |bytes| bytes.len());
        if bytes > TEXT_MAX {
            return Err(SignalError::TooLarge { bytes });
        }
        let at = self.inner.clock.now();
        let signal = Signal { name: body.name, value: body.value, from: body.from, key, at };
        let transition = self.inner.state.signal(namespace, task, signal).await?;
        failpoint::hit("C23");
        self.inner.announcer.transition(namespace, &transition).await;
        Ok(self.get(namespace, task).await?)
    }

    /// Queues a failed or cancelled task again.
    pub async fn retry(&self, namespace: &Namespace, task: TaskId, keep_journal: bool) -> Result<TaskView, TaskError> {
        let transition = self.inner.state.retry(namespace, task, keep_journal).await?;
        info!(task.id = %task, keep_journal, "task retried");
        self.inner.announcer.transition(namespace, &transition).await;
        self.get(namespace, task).await
    }

    /// Takes over a fresh count of what is stored.
    pub(crate) fn counted(&self, stats: &StateStats) {
        self.inner.room.counted(stats);
    }

    /// Who waits for the ends of tasks.
    pub(crate) fn ends(&self) -> Arc<Ends> {
        Arc::clone(&self.inner.ends)
    }

    async fn find_with_answer(&self, namespace: &Namespace, task: TaskId) -> Result<(Task, Option<Value>), TaskError> {
        self.inner.state.task_with_answer(namespace, task).await?.ok_or(TaskError::Unknown { task })
    }

    pub(super) async fn find(&self, namespace: &Namespace, task: TaskId) -> Result<Task, TaskError> {
        self.inner.state.task(namespace, task).await?.ok_or(TaskError::Unknown { task })
    }

    pub(super) async fn journal_or_unknown(
        &self,
        namespace: &Namespace,
        task: TaskId,
        from: u32,
        limit: u32,
    ) -> Result<Vec<Step>, TaskError> {
        let steps = self.inner.state.journal(namespace, task, from, limit).await?;
        // Every task has its input as step 0, so only an empty answer leaves a doubt.
        if steps.is_empty() {
            self.find(namespace, task).await?;
        }
        Ok(steps)
    }

    /// Adds to a task what lists leave out.
    pub(super) async fn view(&self, task: Task) -> Result<TaskView, StateError> {
        let answer = match task.status {
            TaskStatus::Succeeded => self.inner.state.answer(&task.namespace, task.id).await?,
            _ => None,
        };
        self.view_with(task, answer).await
    }

    async fn view_with(&self, task: Task, output: Option<Value>) -> Result<TaskView, StateError> {
        let waiting_for = match task.status {
            TaskStatus::Waiting => self.open_waits(&task).await?,
            TaskStatus::Queued => vec![self.why_queued(&task).await?],
            _ => Vec::new(),
        };
        Ok(TaskView { output, waiting_for, ..TaskView::from(task) })
    }

    async fn open_waits(&self, task: &Task) -> Result<Vec<WaitingFor>, StateError> {
        let mut open = OpenWaits::default();
        let mut from = 0;
        loop {
            let steps = self.inner.state.journal(&task.namespace, task.id, from, JOURNAL_PAGE).await?;
            let last_page = steps.len() < JOURNAL_PAGE as usize;
            for step in steps {
                from = step.seq.saturating_add(1);
                open.take(step);
            }
            if last_page {
                return Ok(open.view());
            }
        }
    }

    async fn why_queued(&self, task: &Task) -> Result<WaitingFor, StateError> {
        if let Some(at) = task.run_at.filter(|at| *at > self.inner.clock.now()) {
            return Ok(match task.attempt {
                0 => WaitingFor::RunAt { at },
                attempt => WaitingFor::Backoff { until: at, attempt },
            });
        }
        if task.thread.is_some() {
            let statuses = vec![TaskStatus::Queued, TaskStatus::Running, TaskStatus::Waiting];
            let filter = TaskFilter { thread: task.thread, statuses, ..TaskFilter::default() };
            let earlier = self.inner.state.tasks(&task.namespace, filter, Some(task.id), 1).await?;
            if let Some(earlier) = earlier.items.first() {
                return Ok(WaitingFor::Thread { task: earlier.id });
            }
        }
        if !task.terms.gates.is_empty()
            && let Some(wait) = self.inner.state.gate(&task.namespace, task.id, self.inner.clock.now()).await?
        {
            return Ok(waiting::for_gate(wait));
        }
        Ok(WaitingFor::Worker)
    }
}
