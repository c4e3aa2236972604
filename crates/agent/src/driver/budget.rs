//! Budgets: what a call may cost is reserved before it is made, and what it did cost is settled after it.
//!
//! A task without accounts passes through here without a single wait.

use domain::{Amount, BudgetLevel, EventBody, FailureKind, OnLimit, Usage, Wait, WaitFor};
use llm::{Candidate, LlmError};
use state::{Reserve, ReserveId, Reserved};

use super::request::Planned;
use super::{Leave, Run, RunEnd};
use crate::machine::{BUDGET_CALLS, PendingCall, shortage_of};

/// What a broken call has spoken, in bytes, and so at most in tokens.
pub(super) type SpokenBytes = u64;

impl Run<'_> {
    /// Tells whether anything is counted.
    pub(super) fn has_accounts(&self) -> bool {
        !self.task.terms.accounts.is_empty()
    }

    /// Tells whether an account limits money.
    pub(super) fn limits_money(&self) -> bool {
        self.task.terms.accounts.iter().any(|account| account.limit.usd.is_some())
    }

    /// Writes the collected steps and reserves an amount, in one commit; the level that does not allow it otherwise.
    pub(super) async fn reserve(
        &mut self,
        id: ReserveId,
        amount: Amount,
    ) -> Result<Result<(), Box<BudgetLevel>>, Leave> {
        let steps = std::mem::take(&mut self.unsaved);
        let parts = &self.driver.parts;
        let told = parts.announcer.steps(self.lease, &steps);
        let reserve = Reserve { id, amount, grants: self.history.grants(), at: self.now() };
        let reserved = parts.state.reserve(self.lease, steps, reserve).await?;
        failpoint::hit("C15");
        told.publish(&parts.announcer, &self.task.namespace);
        match reserved {
            Reserved::Granted { warnings } => {
                for level in warnings {
                    let warning = EventBody::BudgetWarning { task: self.task.id, level };
                    parts.announcer.publish(&self.task.namespace, warning);
                }
                Ok(Ok(()))
            }
            Reserved::Refused(level) => {
                metrics::counter!("agent_budget_refusals_total", "what" => level.what.as_str()).increment(1);
                Ok(Err(Box::new(level)))
            }
        }
    }

    /// Settles a model call that gave no answer; one that did is settled by its step.
    pub(super) async fn settle(&self, seq: u32, used: Usage) -> Result<(), Leave> {
        let spent = Amount { usd: used.cost, tokens: used.total(), model_calls: 1, tool_calls: 0 };
        Ok(self.driver.parts.state.settle(self.lease, ReserveId::Model { seq }, spent).await?)
    }

    /// Releases the worker until a person has decided about a budget.
    pub(super) async fn park_for_budget(&mut self, level: &BudgetLevel) -> Result<RunEnd, Leave> {
        self.keep_tries();
        let on = WaitFor::Budget {
            account: level.account.key.clone(),
            what: level.what,
            limit: level.limit,
            used: level.spent.saturating_add(level.reserved),
            asked: level.asked,
        };
        let call_id = format!("{BUDGET_CALLS}{}", self.history.next_seq());
        let mut waits = vec![Wait { call_id, on, expires_at: None, default: None }];
        waits.extend(self.waiting.iter().map(|(wait, _)| wait.clone()));
        self.park(waits).await
    }

    /// Pays for tool calls that are about to be made; the end of the run when they cannot be paid for now.
    ///
    /// The calls of an answer are paid together, once for ever. A call that waited for a person is paid by itself, under
    /// the number of the step that allowed it: a call that is refused costs nothing, and an edited one what it costs now.
    pub(super) async fn pay_for(&mut self, calls: &[PendingCall]) -> Result<Option<RunEnd>, Leave> {
        if !self.has_accounts() {
            return Ok(None);
        }
        let mut prices: Vec<(u32, Amount)> = Vec::new();
        for pending in calls {
            let Ok(tool) = self.prepared.toolbox.check(&pending.call.name, &pending.call.arguments) else { continue };
            let usd = tool.spec.price.of(&pending.call.arguments);
            let amount = Amount { usd, tool_calls: 1, ..Amount::default() };
            let seq = pending.approved.unwrap_or(pending.answer_seq);
            match prices.iter_mut().find(|(known, _)| *known == seq) {
                Some((_, sum)) => *sum = sum.plus(amount),
                None => prices.push((seq, amount)),
            }
        }
        for (seq, amount) in prices {
            let Err(level) = self.reserve(ReserveId::Tools { seq }, amount).await? else { continue };
            return match level.account.on_limit {
                OnLimit::Ask => self.park_for_budget(&level).await.map(Some),
                OnLimit::Stop | OnLimit::Downgrade => {
                    Err(Leave::failure(FailureKind::LimitExceeded, shortage_of(&level)))
                }
            };
        }
        Ok(None)
    }
}

/// What a call used that gave no answer, rounded up.
///
/// A provider bills nothing for a call that it refused, or could not take. Of an answer that broke off, it bills what it
/// has read and said; and where nobody knows how much it had thought or written, as much as it may have.
pub(super) fn used_by(error: &LlmError, spoken: SpokenBytes, planned: Planned, candidate: &Candidate) -> Usage {
    let unbilled = matches!(
        error,
        LlmError::RateLimited { .. }
            | LlmError::Busy { .. }
            | LlmError::Unavailable { .. }
            | LlmError::Refused { .. }
            | LlmError::Unknown { .. }
            | LlmError::ContextTooLong { .. }
    );
    if unbilled && spoken == 0 {
        return Usage::default();
    }
    let most = planned.answer.map(u64::from);
    let unseen = matches!(error, LlmError::Invalid { .. } | LlmError::Timeout { .. });
    let written = if unseen { most.unwrap_or(spoken) } else { most.map_or(spoken, |most| spoken.min(most)) };
    let mut usage = Usage { estimated: true, ..Usage::tokens(planned.input_most, written) };
    if let Some(price) = &candidate.price {
        usage.cost = price.most(usage.input_tokens, usage.output_tokens);
    }
    usage
}
