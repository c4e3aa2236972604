//! What people decided about budgets that were reached, folded from the journal.

use std::collections::BTreeMap;

use domain::{Amount, BudgetDecision, BudgetLevel, BudgetWindow, Dimension, Resolution, Wait, WaitFor};
use serde::Deserialize as _;

/// How the call ids of waits for budgets begin.
pub const BUDGET_CALLS: &str = "budget@";

/// What was granted to a task, and what it waits for.
#[derive(Debug, Clone, Default)]
pub(super) struct Grants {
    by_account: BTreeMap<String, Amount>,
    asked: BTreeMap<String, (String, String)>,
    refused: Option<String>,
}

impl Grants {
    /// What was granted in all, by the key of the account.
    pub(super) fn list(&self) -> Vec<(String, Amount)> {
        self.by_account.iter().map(|(key, amount)| (key.clone(), *amount)).collect()
    }

    /// Why a person's decision ends the task, if one does.
    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Takes a wait that begins; those for anything but a budget are ignored.
    pub(super) fn asked(&mut self, wait: &Wait) {
        if let WaitFor::Budget { account, what, limit, used, asked } = &wait.on {
            let words = shortage(account, None, *what, *limit, *used, *asked);
            self.asked.insert(wait.call_id.clone(), (account.clone(), words));
        }
    }

    /// Takes the end of a wait; false when it was not for a budget.
    pub(super) fn resolved(&mut self, call_id: &str, by: &Resolution) -> bool {
        let Some((account, words)) = self.asked.remove(call_id) else { return false };
        let granted = match by {
            Resolution::Signal { value, .. } => BudgetDecision::deserialize(value).map(|said| said.grant).ok(),
            _ => None,
        };
        match granted {
            Some(grant) if grant != Amount::default() => {
                let sum = self.by_account.entry(account).or_default();
                *sum = sum.plus(grant);
            }
            Some(_) => self.refused = Some(format!("{words}, and a person granted nothing more")),
            None => self.refused = Some(format!("{words}, and nobody granted more in time")),
        }
        true
    }

    /// A person gave the task another try: what was granted stays, what was refused is forgotten.
    pub(super) fn retried(&mut self) {
        self.asked.clear();
        self.refused = None;
    }
}

/// Says which budget does not allow the next call.
pub fn shortage_of(level: &BudgetLevel) -> String {
    let used = level.spent.saturating_add(level.reserved);
    shortage(&level.account.key, Some(level.account.window), level.what, level.limit, used, level.asked)
}

fn shortage(key: &str, window: Option<BudgetWindow>, what: Dimension, limit: u64, used: u64, asked: u64) -> String {
    let window = match window {
        Some(BudgetWindow::Hour) => " (this hour)",
        Some(BudgetWindow::Day) => " (today)",
        Some(BudgetWindow::Task) | None => "",
    };
    let (asked, used, limit) = (what.show(asked), what.show(used), what.show(limit));
    format!("budget {key}{window}: the next call may take {asked}; {used} of {limit} are used or reserved")
}
