//! Performs what `machine` decides, and journals every finished step before the next one begins.
//!
//! What a decision needs to know is on disk before anything outside is asked: steps that the machine records between
//! two effects are collected and written in one go, and the last ones go together with the outcome. A task with n steps
//! waits for n + 1 commits in all, its submission included.

mod approval;
mod budget;
mod delegation;
mod model_call;
mod prepared;
mod probe;
mod request;
mod telling;
mod tool_calls;
mod workspace;

use std::sync::Arc;
use std::time::Duration;

use domain::{Clock, Failure, FailureKind, Ids, Lease, StepBody, Task, Timestamp, Wait};
use state::agents::Agents;
use state::{AttemptFailed, Claimed, Finish, NewStep, NewThreadMessage, Outcome, Park, State, StateError};
use tokio_util::sync::CancellationToken;

use crate::Announcer;
use crate::machine::{Decision, History, Verdict};
use prepared::{Prepared, PreparedAgents};
pub use request::DEFAULT_OUTPUT_WITH_BUDGET;

/// What a driver works with.
pub struct DriverParts {
    /// The record.
    pub state: Arc<dyn State>,
    /// The agents of the record.
    pub agents: Arc<Agents>,
    /// Tells others what changed.
    pub announcer: Announcer,
    /// Keeps the files of tasks.
    pub blobs: Arc<dyn blob::Blobs>,
    /// What the operator allows each namespace.
    pub limits: Arc<domain::PlatformLimits>,
    /// The models.
    pub models: llm::Models,
    /// The tools.
    pub toolkit: tools::Toolkit,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Identity.
    pub ids: Arc<dyn Ids>,
}

/// Runs claimed tasks. One driver serves all runs of a process.
pub struct Driver {
    parts: DriverParts,
    prepared: PreparedAgents,
}

/// What the worker that holds a run may tell it.
#[derive(Debug, Clone, Default)]
pub struct RunControl {
    /// Somebody asked the task to stop: end it as cancelled, soon.
    pub cancel: CancellationToken,
    /// The worker stops: give the task back at the next step.
    pub release: CancellationToken,
    /// The worker stops now, or the lease was lost: drop what is under way.
    pub abort: CancellationToken,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// The task has an answer.
    Succeeded,
    /// The task failed for good.
    Failed,
    /// The task was stopped.
    Cancelled,
    /// The task waits.
    Parked,
    /// The attempt failed; another will follow.
    Retried,
    /// The task was given back.
    Released,
    /// The lease was lost, or the record could not be written: somebody else goes on.
    Dropped,
}

/// Why a run leaves its loop early.
#[derive(Debug)]
enum Leave {
    Cancel,
    Release,
    /// The worker was told to drop what is under way.
    Abort,
    /// The attempt failed.
    Failure {
        failure: Failure,
        retry_after: Option<Duration>,
    },
    State(StateError),
}

impl From<StateError> for Leave {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl Leave {
    fn failure(kind: FailureKind, message: impl Into<String>) -> Self {
        Self::Failure { failure: Failure::new(kind, message), retry_after: None }
    }
}

/// One run of one task.
struct Run<'a> {
    driver: &'a Driver,
    prepared: Arc<Prepared>,
    task: Arc<Task>,
    lease: Lease,
    history: History,
    /// Steps that are not in the journal yet; their numbers end before `history.next_seq()`.
    unsaved: Vec<NewStep>,
    /// Waits that the calls of the last answer asked for.
    waiting: Vec<(Wait, Option<domain::NewTask>)>,
    control: &'a RunControl,
    model_calls: u32,
    /// Model calls that gave no answer; they belong to the next one that does.
    tries: Vec<domain::ModelTry>,
    /// A model has answered in this run.
    spoke: bool,
    /// The pictures of the task's input, loaded.
    pictures: Option<Vec<domain::Image>>,
}

impl Driver {
    /// Makes a driver.
    pub fn new(parts: DriverParts) -> Self {
        Self { parts, prepared: PreparedAgents::default() }
    }

    /// Runs a claimed task until it ends, waits, is retried later, given back or taken away.
    ///
    /// Dropping the future leaves the task as its journal says; its lease then runs out.
    pub async fn run(&self, claimed: Claimed, control: &RunControl) -> RunEnd {
        let lease = claimed.lease();
        let task = claimed.task;
        tracing::debug!(task.id = %task.id, task.agent = %task.agent, epoch = lease.epoch, "task started");
        let prepared = match self.prepared.get(&self.parts, &task).await {
            Ok(Some(prepared)) => prepared,
            Ok(None) => {
                let message = format!("agent {} has no version {}", task.agent, task.agent_version);
                let outcome = Outcome::Failed(Failure::new(FailureKind::AgentUnknown, message));
                return self.end_early(&task, lease, outcome).await;
            }
            Err(error) => return self.give_up(&task, lease, &error).await,
        };
        let Some(history) = History::replay(&prepared.rules, claimed.thread, &claimed.steps) else {
            let outcome =
                Outcome::Failed(Failure::new(FailureKind::Internal, "the journal does not begin with an input"));
            return self.end_early(&task, lease, outcome).await;
        };
        drop(claimed.steps);
        let mut run = Run {
            driver: self,
            prepared,
            task: Arc::new(task),
            lease,
            history,
            unsaved: Vec::new(),
            waiting: Vec::new(),
            control,
            model_calls: 0,
            tries: Vec::new(),
            spoke: false,
            pictures: None,
        };
        failpoint::hit("C11");
        let end = match run.drive().await {
            Ok(end) => end,
            Err(leave) => run.leave(leave).await,
        };
        tracing::debug!(task.id = %lease.task, epoch = lease.epoch, end = ?end, "run ended");
        end
    }

    async fn end_early(&self, task: &Task, lease: Lease, outcome: Outcome) -> RunEnd {
        let end = if outcome == Outcome::Cancelled { RunEnd::Cancelled } else { RunEnd::Failed };
        let finish =
            Finish { steps: Vec::new(), outcome, usage: task.usage, messages: Vec::new(), at: self.parts.clock.now() };
        match self.parts.state.finish(lease, finish).await {
            Ok(transition) => {
                self.parts.announcer.transition(&task.namespace, &transition).await;
                end
            }
            Err(error) => self.give_up(task, lease, &error).await,
        }
    }

    /// Leaves a task to whoever claims it next.
    async fn give_up(&self, task: &Task, lease: Lease, error: &StateError) -> RunEnd {
        match error {
            StateError::LeaseLost { .. } => {
                metrics::counter!("agent_leases_lost_total").increment(1);
                tracing::warn!(task.id = %task.id, epoch = lease.epoch, "lease lost, run dropped");
                return RunEnd::Dropped;
            }
            StateError::Closed => return RunEnd::Dropped,
            _ => {}
        }
        tracing::error!(task.id = %task.id, epoch = lease.epoch, error = %error, "record not written, run given up");
        match self.parts.state.release(lease).await {
            Ok(transition) => {
                self.parts.announcer.transition(&task.namespace, &transition).await;
                RunEnd::Released
            }
            Err(_) => RunEnd::Dropped,
        }
    }
}

impl Run<'_> {
    async fn drive(&mut self) -> Result<RunEnd, Leave> {
        loop {
            self.check_control()?;
            let waits: Vec<Wait> = self.waiting.iter().map(|(wait, _)| wait.clone()).collect();
            match self.history.decide(&self.prepared.rules, &waits) {
                Decision::CallModel => {
                    self.check_time()?;
                    // A reservation takes the collected steps with it.
                    if !self.has_accounts() {
                        self.save().await?;
                        self.check_control()?;
                    }
                    if let Some(end) = self.call_model().await? {
                        return Ok(end);
                    }
                }
                Decision::CallTools(calls) => {
                    self.check_time()?;
                    if let Some(end) = self.call_tools(calls).await? {
                        return Ok(end);
                    }
                }
                Decision::Probe { call, probe } => {
                    self.check_time()?;
                    self.probe(call, probe).await?;
                }
                Decision::Record(body) => {
                    let at = self.now();
                    self.record(at, body);
                }
                Decision::Park(waits) => return self.park(waits).await,
                Decision::Finish(Verdict::Succeeded) => return self.finish(Outcome::Succeeded).await,
                Decision::Finish(Verdict::Failed(failure)) => return self.finish(Outcome::Failed(failure)).await,
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.driver.parts.clock.now()
    }

    /// Takes a step into the history; `save` writes it.
    fn record(&mut self, at: Timestamp, body: StepBody) {
        let seq = self.history.next_seq();
        self.history.apply(&self.prepared.rules, seq, &body);
        self.unsaved.push(NewStep { seq, at, body });
    }

    /// Writes the collected steps and waits until they are durable.
    async fn save(&mut self) -> Result<(), Leave> {
        if self.unsaved.is_empty() {
            return Ok(());
        }
        let steps = std::mem::take(&mut self.unsaved);
        let told = self.driver.parts.announcer.steps(self.lease, &steps);
        self.driver.parts.state.append(self.lease, steps).await?;
        failpoint::hit("C15");
        told.publish(&self.driver.parts.announcer, &self.task.namespace);
        Ok(())
    }

    fn check_control(&self) -> Result<(), Leave> {
        if self.control.abort.is_cancelled() {
            return Err(Leave::Abort);
        }
        if self.control.cancel.is_cancelled() {
            failpoint::hit("C30");
            return Err(Leave::Cancel);
        }
        if self.control.release.is_cancelled() {
            return Err(Leave::Release);
        }
        Ok(())
    }

    /// When the task must have ended, by its deadline or its agent's wall time.
    fn must_end_by(&self) -> Option<(Timestamp, FailureKind)> {
        let wall = self.prepared.rules.wall_time();
        let started = self.task.started_at.unwrap_or(self.task.created_at);
        let by_wall = chrono::Duration::from_std(wall).ok().and_then(|wall| started.checked_add_signed(wall));
        match (by_wall, self.task.deadline) {
            (Some(wall), Some(deadline)) if deadline <= wall => Some((deadline, FailureKind::DeadlineExceeded)),
            (Some(wall), _) => Some((wall, FailureKind::LimitExceeded)),
            (None, deadline) => deadline.map(|deadline| (deadline, FailureKind::DeadlineExceeded)),
        }
    }

    fn check_time(&self) -> Result<(), Leave> {
        match self.must_end_by() {
            Some((at, kind)) if self.now() >= at => Err(self.out_of_time(kind)),
            _ => Ok(()),
        }
    }

    fn out_of_time(&self, kind: FailureKind) -> Leave {
        let message = if kind == FailureKind::DeadlineExceeded {
            "the deadline has passed".to_owned()
        } else {
            format!("limits.wall_time: {} have passed", domain::HumanDuration(self.prepared.rules.wall_time()))
        };
        Leave::failure(kind, message)
    }

    /// How long something may still take: `limit`, or less when the task must end before.
    fn time_left(&self, limit: Duration) -> Duration {
        let left = self.must_end_by().map(|(at, _)| (at - self.now()).to_std().unwrap_or(Duration::ZERO));
        left.map_or(limit, |left| left.min(limit))
    }

    async fn park(&mut self, waits: Vec<Wait>) -> Result<RunEnd, Leave> {
        let mut children = Vec::new();
        for (_, child) in std::mem::take(&mut self.waiting) {
            children.extend(child);
        }
        let at = self.now();
        let limit = self.must_end_by().map(|(at, _)| at);
        let waits = waits
            .into_iter()
            .map(|mut wait| {
                // A wait that outlives its task would be noticed by nobody.
                if !matches!(wait.on, domain::WaitFor::Timer { .. }) {
                    wait.expires_at = [wait.expires_at, limit].into_iter().flatten().min();
                }
                wait
            })
            .collect();
        let steps = std::mem::take(&mut self.unsaved);
        let told = self.driver.parts.announcer.steps(self.lease, &steps);
        let created: Vec<_> = children.iter().map(|child| (child.id, child.agent.clone())).collect();
        let park = Park { seq: self.history.next_seq(), steps, at, waits, children };
        let transition = self.driver.parts.state.park(self.lease, park).await?;
        let announcer = &self.driver.parts.announcer;
        told.publish(announcer, &self.task.namespace);
        announcer.parked(&self.task.namespace, self.task.id, &created, &transition);
        announcer.transition(&self.task.namespace, &transition).await;
        Ok(RunEnd::Parked)
    }

    async fn finish(&mut self, outcome: Outcome) -> Result<RunEnd, Leave> {
        let end = match outcome {
            Outcome::Succeeded => RunEnd::Succeeded,
            Outcome::Failed(_) => RunEnd::Failed,
            Outcome::Cancelled => RunEnd::Cancelled,
        };
        let mut messages = Vec::new();
        if outcome == Outcome::Succeeded
            && self.task.thread.is_some()
            && let Some(answer) = self.history.answer()
        {
            messages.push(NewThreadMessage { role: "user", text: crate::machine::request(self.history.input()) });
            messages.push(NewThreadMessage { role: "assistant", text: answer.text.clone() });
        }
        let steps = std::mem::take(&mut self.unsaved);
        let told = self.driver.parts.announcer.steps(self.lease, &steps);
        let finish = Finish { steps, outcome, usage: self.history.usage(), messages, at: self.now() };
        let transition = self.driver.parts.state.finish(self.lease, finish).await?;
        failpoint::hit("C18");
        let announcer = &self.driver.parts.announcer;
        told.publish(announcer, &self.task.namespace);
        announcer.transition(&self.task.namespace, &transition).await;
        Ok(end)
    }

    async fn leave(&mut self, leave: Leave) -> RunEnd {
        match self.try_leave(leave).await {
            Ok(end) => end,
            Err(Leave::State(error)) => self.driver.give_up(&self.task, self.lease, &error).await,
            Err(_) => RunEnd::Dropped,
        }
    }

    async fn try_leave(&mut self, leave: Leave) -> Result<RunEnd, Leave> {
        self.keep_tries();
        match leave {
            Leave::State(error) => Err(Leave::State(error)),
            // What has finished is saved, so that nothing of it runs again; a lease that was lost refuses that. Handing the
            // task back is better than letting its lease run out.
            Leave::Abort | Leave::Release => {
                self.save().await?;
                self.release().await
            }
            Leave::Cancel => self.finish(Outcome::Cancelled).await,
            Leave::Failure { failure, retry_after } => {
                if failure.kind.retryable() && self.task.attempt + 1 < self.prepared.agent.retry.max_attempts {
                    self.retry_later(failure, retry_after).await
                } else {
                    self.finish(Outcome::Failed(failure)).await
                }
            }
        }
    }

    async fn release(&mut self) -> Result<RunEnd, Leave> {
        let transition = self.driver.parts.state.release(self.lease).await?;
        self.driver.parts.announcer.transition(&self.task.namespace, &transition).await;
        Ok(RunEnd::Released)
    }

    async fn retry_later(&mut self, failure: Failure, retry_after: Option<Duration>) -> Result<RunEnd, Leave> {
        self.save().await?;
        let now = self.now();
        let pause = self.backoff().max(retry_after.unwrap_or_default());
        let retry_at = now + chrono::Duration::from_std(pause).unwrap_or(chrono::Duration::MAX);
        tracing::info!(task.id = %self.task.id, failure = %failure.kind.as_str(), pause_ms = pause.as_millis() as u64, "attempt failed");
        let failed = AttemptFailed { seq: self.history.next_seq(), at: now, failure, retry_at };
        let transition = self.driver.parts.state.fail_attempt(self.lease, failed).await?;
        self.driver.parts.announcer.transition(&self.task.namespace, &transition).await;
        Ok(RunEnd::Retried)
    }

    /// Exponential with full jitter over its upper half, so that many tasks that failed together do not come back together.
    fn backoff(&self) -> Duration {
        let retry = &self.prepared.agent.retry;
        let factor = 1_u32.checked_shl(self.task.attempt.min(20)).unwrap_or(u32::MAX);
        let longest = retry.initial_backoff.0.saturating_mul(factor).min(retry.max_backoff.0);
        let random = self.driver.parts.ids.uuid().as_bytes()[15];
        longest / 2 + longest.mul_f64(f64::from(random) / 510.0)
    }
}
