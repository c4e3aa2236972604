//! Budgets: how they stand, and people who raise them or do not.

use domain::{Amount, BUDGET_SIGNALS, BudgetDecision, BudgetLevel, Dimension, Namespace, TaskId};
use tracing::info;
use wire::{AccountView, AmountView, BudgetView, DecideBudget, TaskView};

use super::approvals::DecisionError;
use super::submission::{Faults, LABEL_MAX};
use super::tasks::{TaskError, Tasks};

/// The most that one decision grants.
const USD_MAX: f64 = 1_000_000.0;
const TOKENS_MAX: u64 = 1_000_000_000_000;
const CALLS_MAX: u64 = 1_000_000_000;

impl Tasks {
    /// Shows the accounts that a task's calls are paid from, the widest last.
    pub async fn budget(&self, namespace: &Namespace, task: TaskId) -> Result<Vec<BudgetView>, TaskError> {
        let task = self.find(namespace, task).await?;
        let levels = self.inner.state.budget(namespace, task.id, self.inner.clock.now()).await?;
        Ok(by_account(levels))
    }

    /// Shows the accounts of a namespace that were used in their current windows.
    pub async fn accounts(&self, namespace: &Namespace) -> Result<Vec<AccountView>, TaskError> {
        let accounts = self.inner.state.accounts(namespace, self.inner.clock.now()).await?;
        let view = |account: state::AccountView| AccountView {
            account: account.key,
            window: account.window,
            since: account.since,
            spent: account.spent.into(),
            reserved: account.reserved.into(),
        };
        Ok(accounts.into_iter().map(view).collect())
    }

    /// Takes a decision about a budget that does not allow the next call.
    ///
    /// The same decision of the same person again changes nothing.
    pub async fn decide_budget(
        &self,
        namespace: &Namespace,
        task: TaskId,
        body: DecideBudget,
    ) -> Result<TaskView, DecisionError> {
        let grant = check(&body)?;
        let found = self.find(namespace, task).await?;
        let decisions = self.decisions(&found).await?;
        let asked = decisions
            .budget(&body.call_id)
            .ok_or_else(|| DecisionError::Unknown { task, call_id: body.call_id.clone() })?;
        let value = serde_json::to_value(BudgetDecision { grant }).unwrap_or_default();
        let name = format!("{BUDGET_SIGNALS}{}", body.call_id);
        self.answer(namespace, &found, asked, name, value, &body.by).await?;
        info!(task.id = %task, granted = !body.deny, "a budget was decided about");
        Ok(self.get(namespace, task).await?)
    }
}

/// Puts the levels of one account together, in their order.
fn by_account(levels: Vec<BudgetLevel>) -> Vec<BudgetView> {
    let mut views: Vec<BudgetView> = Vec::new();
    for level in levels {
        let account = &level.account;
        let same = |view: &BudgetView| view.account == account.key && view.window == account.window;
        let at = views.iter().position(same).unwrap_or_else(|| {
            views.push(BudgetView {
                account: account.key.clone(),
                window: account.window,
                on_limit: account.on_limit,
                limit: AmountView::default(),
                spent: AmountView::default(),
                reserved: AmountView::default(),
            });
            views.len() - 1
        });
        let view = &mut views[at];
        view.limit.set(level.what, level.limit);
        view.spent.set(level.what, level.spent);
        view.reserved.set(level.what, level.reserved);
    }
    views
}

fn check(body: &DecideBudget) -> Result<Amount, DecisionError> {
    let mut faults = Faults::default();
    faults.label("/by", &body.by, 1, LABEL_MAX);
    faults.label("/call_id", &body.call_id, 1, LABEL_MAX);
    let grant = body.grant.unwrap_or_default();
    let amount = grant.amount();
    match (&body.grant, body.deny) {
        (Some(_), true) => faults.add("/deny", "cannot be given together with `grant`"),
        (None, false) => faults.add("/grant", "is missing: say what is granted, or `deny: true`"),
        (None, true) => {}
        (Some(_), false) => {
            if grant.usd.is_some_and(|usd| !(0.0..=USD_MAX).contains(&usd)) {
                faults.add("/grant/usd", format!("must be from 0 to {USD_MAX}"));
            }
            for (pointer, what, most) in [
                ("/grant/tokens", Dimension::Tokens, TOKENS_MAX),
                ("/grant/model_calls", Dimension::ModelCalls, CALLS_MAX),
                ("/grant/tool_calls", Dimension::ToolCalls, CALLS_MAX),
            ] {
                if amount.of(what) > most {
                    faults.add(pointer, format!("must be from 0 to {most}"));
                }
            }
            if amount == Amount::default() && faults.0.is_empty() {
                faults.add("/grant", "must grant something; to stop the task, write `deny: true`");
            }
        }
    }
    if faults.0.is_empty() { Ok(amount) } else { Err(DecisionError::Invalid(faults.0)) }
}

#[cfg(test)]
mod tests {
    use domain::{BudgetAccount, BudgetWindow, OnLimit, Usd};

    use super::*;

    fn body(grant: Option<AmountView>, deny: bool) -> DecideBudget {
        DecideBudget { call_id: "b".to_owned(), grant, deny, by: "kim".to_owned() }
    }

    fn faults(body: &DecideBudget) -> Vec<String> {
        match check(body) {
            Err(DecisionError::Invalid(faults)) => faults.into_iter().map(|fault| fault.pointer).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn a_grant_is_something_within_reason_or_a_denial() {
        let usd = |usd| Some(AmountView { usd: Some(usd), ..AmountView::default() });
        assert_eq!(check(&body(usd(1.5), false)).unwrap().usd, Usd::from_dollars(1.5));
        assert_eq!(check(&body(None, true)).unwrap(), Amount::default());
        assert_eq!(faults(&body(None, false)), ["/grant"]);
        assert_eq!(faults(&body(usd(0.0), false)), ["/grant"]);
        assert_eq!(faults(&body(usd(1.0), true)), ["/deny"]);
        for wrong in [-1.0, f64::NAN, f64::INFINITY, 1e9] {
            assert_eq!(faults(&body(usd(wrong), false)), ["/grant/usd"], "{wrong}");
        }
        let tokens = Some(AmountView { tokens: Some(u64::MAX), ..AmountView::default() });
        assert_eq!(faults(&body(tokens, false)), ["/grant/tokens"]);
    }

    #[test]
    fn the_levels_of_an_account_are_shown_together() {
        let level = |key: &str, what, limit| BudgetLevel {
            account: BudgetAccount {
                key: key.to_owned(),
                window: BudgetWindow::Task,
                limit: domain::AmountLimit::default(),
                on_limit: OnLimit::Ask,
            },
            what,
            limit,
            spent: 1,
            reserved: 2,
            asked: 0,
        };
        let levels =
            vec![level("a", Dimension::Usd, 3), level("a", Dimension::Tokens, 4), level("b", Dimension::Tokens, 5)];
        let views = by_account(levels);
        assert_eq!(views.len(), 2);
        assert_eq!((views[0].limit.tokens, views[0].spent.usd), (Some(4), Some(1e-9)));
        assert_eq!((views[1].limit.tokens, views[1].limit.usd), (Some(5), None));
    }
}
