//! The tool calls of one answer: run in parallel, journaled one by one as they finish.

use domain::{Effect, StepBody, ToolOutcome, ToolStep};
use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use tools::{CallContext, ToolReply};

use super::workspace::TaskWorkspace;
use super::{Leave, Run, RunEnd};
use crate::machine::PendingCall;

/// What came of a call.
enum Called {
    Done(ToolOutcome),
    Wait(tools::WaitRequest),
    Send(domain::AgentName, domain::TaskInput),
}

impl Run<'_> {
    /// Runs the calls. Those that wait are collected in `waiting`; the outcomes of the others are in the journal,
    /// but for the last ones, which are saved with what follows. The end of the run when a person must decide first
    /// whether they may be paid.
    pub(super) async fn call_tools(&mut self, calls: Vec<PendingCall>) -> Result<Option<RunEnd>, Leave> {
        let calls = self.hold_for_approval(calls);
        if calls.is_empty() {
            return Ok(None);
        }
        if let Some(end) = self.pay_for(&calls).await? {
            return Ok(Some(end));
        }
        // A mark says that a call begins: what might still have held it back is behind it.
        let marked = self.mark_once_calls(&calls);
        self.save().await?;
        match self.check_control() {
            // Whoever gives back a task with a mark leaves a call behind of which nobody knows whether it was made.
            Err(Leave::Release) if marked => {}
            other => other?,
        }
        failpoint::hit("C12");

        let driver = self.driver;
        let prepared = std::sync::Arc::clone(&self.prepared);
        let task = std::sync::Arc::clone(&self.task);
        let left = self.time_left(std::time::Duration::from_secs(366 * 86_400));
        let workspace = TaskWorkspace::new(&driver.parts, &task, &prepared.agent, self.lease);
        let mut running: FuturesUnordered<_> =
            calls.iter().map(|pending| call(driver, &prepared, &task, &workspace, pending, left)).collect();
        let control = self.control.clone();
        while !running.is_empty() {
            let next = async {
                // What is to be saved goes on while the other calls do; they are never held up by a commit.
                if self.unsaved.is_empty() {
                    return Ok(running.next().await);
                }
                let mut done = None;
                {
                    let mut saving = self.save().boxed();
                    loop {
                        tokio::select! {
                            biased;
                            saved = &mut saving => { saved?; break; }
                            finished = running.next(), if done.is_none() => done = finished,
                        }
                    }
                }
                Ok::<_, Leave>(if done.is_some() { done } else { running.next().await })
            };
            let finished = tokio::select! {
                biased;
                () = control.abort.cancelled() => return Err(Leave::Abort),
                () = control.cancel.cancelled() => {
                    failpoint::hit("C30");
                    return Err(Leave::Cancel);
                }
                finished = next => finished?,
            };
            if let Some((pending, called, duration_ms)) = finished {
                failpoint::hit("C14");
                self.take_outcome(pending, called, duration_ms).await?;
            }
        }
        Ok(None)
    }

    /// Marks the `once` calls; tells whether any of the calls has a mark.
    fn mark_once_calls(&mut self, calls: &[PendingCall]) -> bool {
        let mut marked = false;
        for pending in calls {
            let (toolbox, call) = (&self.prepared.toolbox, &pending.call);
            let once = toolbox.get(&call.name).is_some_and(|tool| tool.spec.effect == Effect::Once);
            if once && toolbox.check(&call.name, &call.arguments).is_ok() {
                marked = true;
                if !pending.started {
                    let at = self.now();
                    let (call_id, tool) = (pending.call.id.clone(), pending.call.name.clone());
                    self.record(at, StepBody::ToolStarted { call_id, tool });
                }
            }
        }
        marked
    }

    async fn take_outcome(&mut self, pending: &PendingCall, called: Called, duration_ms: u64) -> Result<(), Leave> {
        let outcome = match called {
            Called::Done(outcome) => outcome,
            Called::Wait(request) => match self.prepare_wait(pending, request).await? {
                Ok(wait) => {
                    self.waiting.push(wait);
                    return Ok(());
                }
                Err(refusal) => ToolOutcome::Error(refusal),
            },
            Called::Send(agent, input) => self.send(pending, agent, input).await?,
        };
        let at = self.now();
        let (call_id, tool) = (pending.call.id.clone(), pending.call.name.clone());
        self.record(at, StepBody::Tool(ToolStep { call_id, tool, outcome, duration_ms }));
        Ok(())
    }
}

async fn call<'a>(
    driver: &super::Driver,
    prepared: &super::Prepared,
    task: &domain::Task,
    workspace: &TaskWorkspace<'_>,
    pending: &'a PendingCall,
    left: std::time::Duration,
) -> (&'a PendingCall, Called, u64) {
    let call = &pending.call;
    let allowed = match prepared.toolbox.check(&call.name, &call.arguments) {
        Ok(allowed) => allowed,
        Err(refusal) => {
            metrics::counter!("agent_tool_calls_total", "outcome" => "refused").increment(1);
            let whose = if pending.edited { "the edit of the person who allowed the call is not valid: " } else { "" };
            return (pending, Called::Done(ToolOutcome::Error(format!("{whose}{refusal}"))), 0);
        }
    };
    let clock = &driver.parts.clock;
    let started = clock.monotonic();
    let context = CallContext {
        task,
        agent: &prepared.agent,
        call_id: &call.id,
        idempotency_key: pending.idempotency_key(task.id),
        now: clock.now(),
        workspace,
    };
    let limit = allowed.spec.timeout.min(left);
    let once = allowed.spec.effect == Effect::Once;
    let replied = tokio::time::timeout(limit, allowed.tool.call(&context, call.arguments.clone())).await;
    let duration_ms = clock.monotonic().saturating_sub(started).as_millis() as u64;
    let (called, outcome) = match replied {
        Ok(Ok(ToolReply::Done(value))) => (Called::Done(ToolOutcome::Ok(value)), "ok"),
        Ok(Ok(ToolReply::Wait(request))) => (Called::Wait(request), "wait"),
        Ok(Ok(ToolReply::Send { agent, input })) => (Called::Send(agent, input), "send"),
        // A model that is told of an error tries again: for a call that must not be repeated, that would be the repetition.
        Ok(Err(error)) if error.unknown && once => (Called::Done(ToolOutcome::Unknown), "unknown"),
        Err(_) if once => (Called::Done(ToolOutcome::Unknown), "unknown"),
        Ok(Err(error)) => (Called::Done(ToolOutcome::Error(format!("{}: {}", error.code, error.message))), "error"),
        Err(_) => {
            let text = format!("timeout: no answer within {}", domain::HumanDuration(limit));
            (Called::Done(ToolOutcome::Error(text)), "timeout")
        }
    };
    metrics::counter!("agent_tool_calls_total", "outcome" => outcome).increment(1);
    metrics::histogram!("agent_tool_call_seconds").record(duration_ms as f64 / 1_000.0);
    (pending, called, duration_ms)
}
