//! Asks another tool whether a call that a crash cut off had happened.

use domain::{Amount, StepBody};
use serde_json::Value;
use state::ReserveId;
use tools::{CallContext, ToolReply};

use super::workspace::TaskWorkspace;
use super::{Leave, Run};
use crate::machine::{PendingCall, probe_arguments, probe_says};

impl Run<'_> {
    /// Asks the probe once and records what it said. Whatever is not a clear answer means that it does not know.
    pub(super) async fn probe(&mut self, pending: PendingCall, probe: String) -> Result<(), Leave> {
        self.save().await?;
        self.check_control()?;
        let (happened, value) = match self.pay_for_probe(&probe, &pending).await? {
            Ok(()) => self.ask_probe(&probe, &pending).await?,
            Err(words) => (None, Value::String(words)),
        };
        let at = self.now();
        self.record(at, StepBody::Probed { call_id: pending.call.id, tool: probe, happened, value });
        Ok(())
    }

    /// A probe is a call of its own; without the means for it, a person is asked.
    async fn pay_for_probe(&mut self, probe: &str, pending: &PendingCall) -> Result<Result<(), String>, Leave> {
        let Some(tool) = self.prepared.toolbox.get(probe).filter(|_| self.has_accounts()) else { return Ok(Ok(())) };
        let usd = tool.spec.price.of(&probe_arguments(&tool.spec, &pending.call, ""));
        let amount = Amount { usd, tool_calls: 1, ..Amount::default() };
        let paid = self.reserve(ReserveId::Tools { seq: self.history.next_seq() }, amount).await?;
        Ok(paid.map_err(|level| crate::machine::shortage_of(&level)))
    }

    async fn ask_probe(&self, probe: &str, pending: &PendingCall) -> Result<(Option<bool>, Value), Leave> {
        let (driver, prepared) = (self.driver, &self.prepared);
        let unclear = |words: String| Ok((None, Value::String(words)));
        let Some(tool) = prepared.toolbox.get(probe) else { return unclear(format!("there is no tool {probe}")) };
        let key = pending.idempotency_key(self.task.id);
        let arguments = probe_arguments(&tool.spec, &pending.call, &key);
        if let Err(refusal) = prepared.toolbox.check(probe, &arguments) {
            return unclear(refusal.to_string());
        }
        let workspace = TaskWorkspace::new(&driver.parts, &self.task, &prepared.agent, self.lease);
        let call_id = format!("{}?", pending.call.id);
        let context = CallContext {
            task: &self.task,
            agent: &prepared.agent,
            call_id: &call_id,
            idempotency_key: format!("{key}/probe"),
            now: self.now(),
            workspace: &workspace,
        };
        let limit = self.time_left(tool.spec.timeout);
        let replied = tokio::select! {
            biased;
            () = self.control.abort.cancelled() => return Err(Leave::Abort),
            () = self.control.cancel.cancelled() => return Err(Leave::Cancel),
            replied = tokio::time::timeout(limit, tool.tool.call(&context, arguments)) => replied,
        };
        metrics::counter!("agent_probes_total").increment(1);
        match replied {
            Ok(Ok(ToolReply::Done(value))) => Ok((probe_says(&value), value)),
            Ok(Ok(ToolReply::Wait(_) | ToolReply::Send { .. })) => {
                unclear("the probe did not answer at once".to_owned())
            }
            Ok(Err(error)) => unclear(format!("{}: {}", error.code, error.message)),
            Err(_) => unclear(format!("timeout: no answer within {}", domain::HumanDuration(limit))),
        }
    }
}
