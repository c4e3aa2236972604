//! `agentrunner budgets`: what work costs, and what it may cost.

use clap::Args;
use domain::{BudgetWindow, TaskId, Usd};
use wire::{AccountView, AmountView, BudgetView};

use crate::context::Context;
use crate::exit::{CommandResult, Exit};
use crate::output::{self, Grid, words};
use crate::session::{Need, Session};
use crate::terminal::Stream;

/// Whose budgets.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  agentrunner budgets
  agentrunner budgets 0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10")]
pub struct BudgetsArgs {
    /// The accounts that this task is paid from; without it, those of agents and of the namespace in this hour and day.
    pub task: Option<TaskId>,
}

/// Shows budgets.
pub async fn run(context: &Context, args: BudgetsArgs) -> CommandResult {
    let session = Session::open(context, Need::Record).await?;
    let result = show(context, &session, &args).await;
    session.close().await;
    result
}

async fn show(context: &Context, session: &Session, args: &BudgetsArgs) -> CommandResult {
    if let Some(task) = args.task {
        let budgets = session.client.budget(task).await?;
        output::print(context, &budgets, |stream| of_task(stream, &budgets))?;
    } else {
        let accounts = session.client.budgets().await?;
        output::print(context, &accounts, |stream| of_namespace(stream, &accounts))?;
    }
    Ok(Exit::Done)
}

fn of_task(stream: Stream, budgets: &[BudgetView]) -> String {
    if budgets.is_empty() {
        return "nothing limits this task".to_owned();
    }
    let mut grid = Grid::new(stream, &["ACCOUNT", "PER", "LIMIT", "SPENT", "RESERVED"]);
    for budget in budgets {
        grid.plain([
            budget.account.as_str(),
            window(budget.window),
            amount(&budget.limit).as_str(),
            amount(&budget.spent).as_str(),
            amount(&budget.reserved).as_str(),
        ]);
    }
    grid.finish()
}

fn of_namespace(stream: Stream, accounts: &[AccountView]) -> String {
    if accounts.is_empty() {
        return "no account was used in this hour or day".to_owned();
    }
    let mut grid = Grid::new(stream, &["ACCOUNT", "PER", "SINCE", "SPENT", "RESERVED"]);
    for account in accounts {
        grid.plain([
            account.account.as_str(),
            window(account.window),
            words::moment(account.since).as_str(),
            amount(&account.spent).as_str(),
            amount(&account.reserved).as_str(),
        ]);
    }
    grid.finish()
}

fn window(window: BudgetWindow) -> &'static str {
    match window {
        BudgetWindow::Task => "task",
        BudgetWindow::Hour => "hour",
        BudgetWindow::Day => "day",
    }
}

/// An amount in words, without what is nothing.
fn amount(amount: &AmountView) -> String {
    let mut parts = Vec::new();
    parts.extend(amount.usd.filter(|usd| *usd > 0.0).map(|usd| Usd::from_dollars(usd).to_string()));
    for (count, noun) in
        [(amount.tokens, "token"), (amount.model_calls, "model call"), (amount.tool_calls, "tool call")]
    {
        parts.extend(count.filter(|count| *count > 0).map(|count| words::count(count, noun)));
    }
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_told_without_what_is_nothing() {
        let some = AmountView { usd: Some(0.25), tokens: Some(0), model_calls: Some(1), tool_calls: None };
        assert_eq!(amount(&some), "$0.25, 1 model call");
        assert_eq!(amount(&AmountView::default()), "nothing");
    }
}
