//! One answer of a model: with its fallbacks, its deltas and its time limits.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};

use domain::{Delta, EventBody, ModelStep, StepBody, ToolCall};
use llm::{ChatAnswer, ChatRequest, LlmError};

use super::{Leave, Run};

/// How often a model is asked again at once when its answer was not understood.
const ASK_AGAIN: u32 = 2;

impl Run<'_> {
    /// Asks the model and its fallbacks in turn, and records the answer. The answer is not saved yet.
    pub(super) async fn call_model(&mut self) -> Result<(), Leave> {
        let prepared = std::sync::Arc::clone(&self.prepared);
        let spec = &prepared.agent.model;
        let mut last = None;
        for name in std::iter::once(&spec.name).chain(&spec.fallbacks) {
            match self.ask(name).await? {
                Ok((model, answer, duration_ms)) => {
                    failpoint::hit("C14");
                    self.record_answer(model, answer, duration_ms);
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!(task.id = %self.task.id, model = %name, error = %error, "model call failed");
                    last = Some(error);
                }
            }
        }
        let Some(error) = last else {
            return Err(Leave::failure(domain::FailureKind::Internal, "the agent names no model"));
        };
        let failure = domain::Failure::new(error.kind(), error.to_string());
        Err(Leave::Failure { failure, retry_after: error.retry_after() })
    }

    /// Asks one model; again at once when its answer was not understood.
    async fn ask(&mut self, name: &str) -> Result<Result<(String, ChatAnswer, u64), LlmError>, Leave> {
        let (full, chat, model) = match self.driver.parts.models.find(name) {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        let spec = &self.prepared.agent.model;
        let limit = self.time_left(spec.timeout.0);
        let request = ChatRequest {
            model,
            messages: self.history.messages().to_vec(),
            tools: self.prepared.tools.clone(),
            output_schema: self.prepared.agent.output_schema.clone(),
            temperature: spec.temperature,
            max_output_tokens: spec.max_output_tokens,
            effort: spec.effort,
            timeout: limit,
            idle_timeout: spec.idle_timeout.0,
        };
        let mut tries = 0;
        loop {
            let answer = self.ask_once(&full, chat.as_ref(), &request).await?;
            match answer {
                Err(LlmError::Invalid { .. }) if tries < ASK_AGAIN => tries += 1,
                Err(error) => {
                    if let Some((at, kind)) = self.must_end_by()
                        && self.now() >= at
                    {
                        return Err(self.out_of_time(kind));
                    }
                    return Ok(Err(error));
                }
                Ok((answer, duration_ms)) => return Ok(Ok((full, answer, duration_ms))),
            }
        }
    }

    async fn ask_once(
        &mut self,
        full: &str,
        chat: &dyn llm::ChatModel,
        request: &ChatRequest,
    ) -> Result<Result<(ChatAnswer, u64), LlmError>, Leave> {
        self.model_calls += 1;
        let parts = &self.driver.parts;
        let started = parts.clock.monotonic();
        let seq = self.history.next_seq();
        let spoken = AtomicU32::new(0);
        let on_delta = |text: &str| {
            let n = spoken.fetch_add(1, Ordering::Relaxed) + 1;
            let delta = Delta { seq, epoch: self.lease.epoch, call: self.model_calls, n, text: text.to_owned() };
            parts.announcer.publish(&self.task.namespace, EventBody::TaskDelta { task: self.task.id, delta });
        };
        failpoint::hit("C13");
        // The adapter keeps the same limit; this one holds for an adapter that does not.
        let slack = request.timeout + std::time::Duration::from_secs(1);
        let answer = tokio::select! {
            biased;
            () = self.control.abort.cancelled() => return Err(Leave::Abort),
            () = self.control.cancel.cancelled() => {
                failpoint::hit("C30");
                return Err(Leave::Cancel);
            }
            answer = tokio::time::timeout(slack, chat.chat(request, &on_delta)) => answer,
        };
        let duration_ms = parts.clock.monotonic().saturating_sub(started).as_millis() as u64;
        let answer = answer.unwrap_or_else(|_| Err(LlmError::Timeout { model: full.to_owned(), millis: duration_ms }));
        let outcome = answer.as_ref().map_or_else(|error| error.kind().as_str(), |_| "ok");
        metrics::counter!("agent_model_calls_total", "outcome" => outcome).increment(1);
        metrics::histogram!("agent_model_call_seconds").record(duration_ms as f64 / 1_000.0);
        Ok(answer.map(|answer| (answer, duration_ms)))
    }

    fn record_answer(&mut self, model: String, answer: ChatAnswer, duration_ms: u64) {
        let rules = &self.prepared.rules;
        let seq = self.history.next_seq();
        let tool_calls = self.name_calls(seq, answer.tool_calls);
        let structured = tool_calls.is_empty() && rules.structured() && rules.problems(&answer.text).is_empty();
        let at = self.now();
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
                tries: Vec::new(),
            }),
        );
    }

    /// Some servers give the calls of every answer the same ids; a task's journal names each call once.
    fn name_calls(&self, seq: u32, calls: Vec<ToolCall>) -> Vec<ToolCall> {
        let mut taken: HashSet<String> = HashSet::with_capacity(calls.len());
        calls
            .into_iter()
            .enumerate()
            .map(|(index, mut call)| {
                if call.id.is_empty() || self.history.knows_call(&call.id) || taken.contains(&call.id) {
                    call.id = format!("{}@{seq}.{index}", call.id);
                }
                taken.insert(call.id.clone());
                call
            })
            .collect()
    }
}
