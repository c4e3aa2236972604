//! One answer of a model: with its fallbacks, its deltas, its time limits and its budgets.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use domain::{
    Delta, EventBody, Failure, FailureKind, FinishReason, ModelStep, ModelTry, OnLimit, StepBody, ToolCall, Usage,
    Wait, WaitFor,
};
use llm::{Candidate, ChatAnswer, ChatRequest, LlmError};
use state::ReserveId;

use super::budget::{SpokenBytes, used_by};
use super::request::Planned;
use super::{Leave, Run, RunEnd};
use crate::machine::{BUDGET_CALLS, shortage_of};

/// How often a model is asked again at once when its answer was not understood.
const ASK_AGAIN: u32 = 2;
/// The longest id of a call that is taken from a model.
const MAX_CALL_ID: usize = 128;

/// How the names of waits begin that are for a place at a model; the number of the step that it will answer in follows.
const PLACE_CALLS: &str = "model@";
/// How long a task waits for a place at least and at most before it looks again.
const LEAST_WAIT: std::time::Duration = std::time::Duration::from_secs(1);
const LONGEST_WAIT: std::time::Duration = std::time::Duration::from_secs(60);

/// What became of one model.
enum Asked {
    Answered,
    /// It gave no answer; the next one may.
    Silent(LlmError),
    /// It may not be asked; another one may.
    NotAllowed(Failure),
    /// A budget ends the task.
    Stopped(Failure),
    /// It may not be asked, but one that takes less may.
    TooDear(Box<domain::BudgetLevel>),
    /// The run is over: a person is asked.
    Parked(RunEnd),
}

impl Run<'_> {
    /// Asks the model and its fallbacks in turn, and records the answer. The answer is not saved yet. The end of the run
    /// when a person must decide first.
    pub(super) async fn call_model(&mut self) -> Result<Option<RunEnd>, Leave> {
        let mut question = self.question().await?;
        let mut failed: Option<LlmError> = None;
        let mut busy = None;
        let mut forbidden: Option<Failure> = None;
        let mut too_dear: Option<Box<domain::BudgetLevel>> = None;
        for candidate in self.candidates(&mut failed) {
            let planned = match self.plan(&candidate, &mut question) {
                Ok(planned) => planned,
                Err(failure) => {
                    self.skip(&candidate, &failure);
                    forbidden = Some(failure);
                    continue;
                }
            };
            if let Some(level) = &too_dear
                && planned.most.of(level.what) >= level.asked
            {
                let failure = Failure::new(FailureKind::LimitExceeded, "it may take as much as the model before it");
                self.skip(&candidate, &failure);
                continue;
            }
            question.max_output_tokens = planned.answer;
            match self.ask(&candidate, &mut question, planned).await? {
                Asked::Answered => return Ok(None),
                Asked::Parked(end) => return Ok(Some(end)),
                Asked::Silent(error) => {
                    if let LlmError::Busy { retry_after, .. } = &error {
                        let wait = retry_after.unwrap_or_default();
                        busy = Some(busy.map_or(wait, |other: std::time::Duration| other.min(wait)));
                    }
                    failed = Some(error);
                }
                Asked::NotAllowed(failure) => {
                    self.skip(&candidate, &failure);
                    forbidden = Some(failure);
                }
                Asked::Stopped(failure) => {
                    self.skip(&candidate, &failure);
                    forbidden = Some(failure);
                    break;
                }
                Asked::TooDear(level) => {
                    let failure = Failure::new(FailureKind::LimitExceeded, shortage_of(&level));
                    self.skip(&candidate, &failure);
                    forbidden = Some(failure);
                    too_dear = Some(level);
                }
            }
        }
        if let (Some(wait), None) = (busy, &forbidden) {
            return self.park_for_place(wait).await.map(Some);
        }
        Err(match (failed, forbidden) {
            // What another attempt may mend is tried again before a budget ends the task.
            (Some(error), forbidden) if error.kind().retryable() || forbidden.is_none() => {
                let failure = Failure::new(error.kind(), error.to_string());
                Leave::Failure { failure, retry_after: error.retry_after() }
            }
            (_, Some(failure)) => Leave::Failure { failure, retry_after: None },
            (..) => Leave::failure(FailureKind::Internal, "the agent names no model"),
        })
    }

    /// Releases the worker until the model may have a place. Nothing was tried, so it costs no attempt.
    async fn park_for_place(&mut self, wait: std::time::Duration) -> Result<RunEnd, Leave> {
        self.keep_tries();
        // Many tasks wait for the same place: they come back one after another instead of all at once.
        let jitter = f64::from(self.driver.parts.ids.uuid().as_bytes()[15]) / 255.0;
        let wait = wait.max(LEAST_WAIT).mul_f64(1.0 + jitter).min(LONGEST_WAIT);
        let at = self.now() + chrono::Duration::from_std(wait).unwrap_or(chrono::Duration::MAX);
        let call_id = format!("{PLACE_CALLS}{}", self.history.next_seq());
        self.park(vec![Wait { call_id, on: WaitFor::Timer { at }, expires_at: None, default: None }]).await
    }

    /// The models to ask, in their order, each once. Names behind which there is none are tries that failed.
    fn candidates(&mut self, failed: &mut Option<LlmError>) -> Vec<Candidate> {
        let prepared = std::sync::Arc::clone(&self.prepared);
        let spec = &prepared.agent.model;
        let mut candidates: Vec<Candidate> = Vec::new();
        for name in std::iter::once(&spec.name).chain(&spec.fallbacks) {
            match self.driver.parts.models.route(name) {
                Ok(route) => {
                    for candidate in route.candidates {
                        if candidates.iter().all(|known| known.name != candidate.name) {
                            candidates.push(candidate);
                        }
                    }
                }
                Err(error) => {
                    self.failed(name, &error, Usage::default());
                    *failed = Some(error);
                }
            }
        }
        candidates
    }

    fn failed(&mut self, model: &str, error: &LlmError, usage: Usage) {
        tracing::warn!(task.id = %self.task.id, model = %model, error = %error, "model call failed");
        let failure = Failure::new(error.kind(), error.to_string());
        self.tries.push(ModelTry { model: model.to_owned(), failure, usage });
    }

    /// Notes a model that is not asked.
    fn skip(&mut self, candidate: &Candidate, failure: &Failure) {
        tracing::info!(task.id = %self.task.id, model = %candidate.name, "model is not asked: a limit does not allow it");
        let tried = ModelTry { model: candidate.name.clone(), failure: failure.clone(), usage: Usage::default() };
        self.tries.push(tried);
    }

    /// Asks one model; again at once when its answer was not understood.
    async fn ask(
        &mut self,
        candidate: &Candidate,
        question: &mut ChatRequest,
        planned: Planned,
    ) -> Result<Asked, Leave> {
        if candidate.price.is_none() && self.limits_money() {
            let message = format!("a budget limits money, and {} has no price in models.yml", candidate.name);
            return Ok(Asked::NotAllowed(Failure::new(FailureKind::LimitExceeded, message)));
        }
        let paid = self.has_accounts();
        let mut again = 0;
        loop {
            let seq = self.history.next_seq();
            if paid && let Err(level) = self.reserve(ReserveId::Model { seq }, planned.most).await? {
                return self.refused(level).await;
            }
            // The calls before this one took their time.
            question.timeout = self.time_left(self.prepared.agent.model.timeout.0);
            let (error, spoken) = match self.ask_once(candidate, question).await? {
                Ok((answer, duration_ms)) => {
                    failpoint::hit("C14");
                    let cut = planned.cut_by_limit && answer.finish == FinishReason::Length;
                    self.record_answer(candidate.name.clone(), answer, duration_ms);
                    if cut {
                        let message = "limits.max_tokens: the answer was cut off, for no more tokens are allowed";
                        return Err(Leave::failure(FailureKind::LimitExceeded, message));
                    }
                    return Ok(Asked::Answered);
                }
                Err(broken) => broken,
            };
            let used = used_by(&error, spoken, planned, candidate);
            if paid {
                self.settle(seq, used).await?;
            }
            self.failed(&candidate.name, &error, used);
            if let Some((at, kind)) = self.must_end_by()
                && self.now() >= at
            {
                return Err(self.out_of_time(kind));
            }
            if !matches!(error, LlmError::Invalid { .. }) || again >= ASK_AGAIN {
                return Ok(Asked::Silent(error));
            }
            again += 1;
        }
    }

    /// A budget does not allow the call: what its policy says.
    async fn refused(&mut self, level: Box<domain::BudgetLevel>) -> Result<Asked, Leave> {
        match level.account.on_limit {
            OnLimit::Downgrade => Ok(Asked::TooDear(level)),
            OnLimit::Ask => Ok(Asked::Parked(self.park_for_budget(&level).await?)),
            OnLimit::Stop => Ok(Asked::Stopped(Failure::new(FailureKind::LimitExceeded, shortage_of(&level)))),
        }
    }

    async fn ask_once(
        &mut self,
        candidate: &Candidate,
        question: &ChatRequest,
    ) -> Result<Result<(ChatAnswer, u64), (LlmError, SpokenBytes)>, Leave> {
        self.model_calls += 1;
        let parts = &self.driver.parts;
        let started = parts.clock.monotonic();
        let seq = self.history.next_seq();
        let (spoken, bytes) = (AtomicU32::new(0), AtomicU64::new(0));
        let on_delta = |text: &str| {
            let n = spoken.fetch_add(1, Ordering::Relaxed) + 1;
            bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
            let delta = Delta { seq, epoch: self.lease.epoch, call: self.model_calls, n, text: text.to_owned() };
            parts.announcer.publish(&self.task.namespace, EventBody::TaskDelta { task: self.task.id, delta });
        };
        failpoint::hit("C13");
        // The candidate keeps the same limit; this one holds for one that does not.
        let slack = question.timeout + std::time::Duration::from_secs(1);
        let answer = tokio::select! {
            biased;
            () = self.control.abort.cancelled() => return Err(Leave::Abort),
            () = self.control.cancel.cancelled() => {
                failpoint::hit("C30");
                return Err(Leave::Cancel);
            }
            answer = tokio::time::timeout(slack, candidate.chat(question, &on_delta)) => answer,
        };
        let duration_ms = parts.clock.monotonic().saturating_sub(started).as_millis() as u64;
        let model = || candidate.name.clone();
        let answer = answer.unwrap_or_else(|_| Err(LlmError::Timeout { model: model(), millis: duration_ms }));
        let answer = answer.and_then(|answer| {
            let cut = matches!(answer.finish, FinishReason::Length | FinishReason::ContentFilter);
            if cut && !answer.tool_calls.is_empty() {
                // What was to follow may have changed their meaning.
                let reason = "its tool calls were cut off".to_owned();
                return Err(LlmError::Invalid { model: model(), reason });
            }
            Ok(answer)
        });
        let outcome = answer.as_ref().map_or_else(|error| error.kind().as_str(), |_| "ok");
        metrics::counter!("agent_model_calls_total", "outcome" => outcome).increment(1);
        metrics::histogram!("agent_model_call_seconds").record(duration_ms as f64 / 1_000.0);
        let spoken = bytes.load(Ordering::Relaxed);
        Ok(answer.map(|answer| (answer, duration_ms)).map_err(|error| (error, spoken)))
    }

    fn record_answer(&mut self, model: String, answer: ChatAnswer, duration_ms: u64) {
        let rules = &self.prepared.rules;
        let seq = self.history.next_seq();
        let tool_calls = self.name_calls(seq, answer.tool_calls);
        let structured = tool_calls.is_empty() && rules.structured() && rules.problems(&answer.text).is_empty();
        let tries = std::mem::take(&mut self.tries);
        let at = self.now();
        self.spoke = true;
        self.record(
            at,
            StepBody::Model(ModelStep {
                model,
                text: answer.text,
                tool_calls,
                finish: answer.finish,
                usage: answer.usage,
                structured,
                duration_ms,
                reasoning: answer.reasoning,
                tries,
            }),
        );
    }

    /// Keeps the calls that gave no answer, when none follows that does. A single one that used nothing is told of by the
    /// failure of its attempt.
    pub(super) fn keep_tries(&mut self) {
        let tries = std::mem::take(&mut self.tries);
        if tries.len() > 1 || tries.iter().any(|tried| !tried.usage.is_empty()) {
            let at = self.now();
            self.record(at, StepBody::Tried { tries });
        }
    }

    /// Some servers give the calls of every answer the same ids, or none that could be said back; a task's journal names
    /// each call once, and in plain characters.
    fn name_calls(&self, seq: u32, calls: Vec<ToolCall>) -> Vec<ToolCall> {
        let mut taken: HashSet<String> = HashSet::with_capacity(calls.len());
        calls
            .into_iter()
            .enumerate()
            .map(|(index, mut call)| {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:@".contains(&byte);
                if call.id.len() > MAX_CALL_ID || !call.id.bytes().all(plain) || call.id.starts_with(BUDGET_CALLS) {
                    call.id.clear();
                }
                if call.id.is_empty() || self.history.knows_call(&call.id) || taken.contains(&call.id) {
                    call.id = format!("{}@{seq}.{index}", call.id);
                }
                taken.insert(call.id.clone());
                call
            })
            .collect()
    }
}
