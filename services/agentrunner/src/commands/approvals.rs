//! `agentrunner tasks approvals`: calls that people are asked about.

use clap::Args;
use client::Client;
use domain::{Clock as _, SystemClock, TaskId};
use wire::ApprovalView;

use crate::context::Context;
use crate::exit::{CommandResult, Exit};
use crate::output::{self, Grid, words};
use crate::terminal::Stream;

/// Whose approvals.
#[derive(Debug, Args)]
pub struct ApprovalsArgs {
    /// The task; without it, the open questions of all tasks.
    pub task: Option<TaskId>,
}

/// Lists the calls of a task that people were asked about, or the open ones of all tasks.
pub(super) async fn run(context: &Context, client: &Client, task: Option<TaskId>) -> CommandResult {
    const PAGE: u32 = 100;
    if let Some(task) = task {
        let asked = client.approvals(task).await?;
        output::print(context, &asked, |stream| match &asked[..] {
            [] => "nobody was asked about a call of this task".to_owned(),
            asked => approval_table(stream, asked),
        })?;
        return Ok(Exit::Done);
    }
    let mut open = Vec::new();
    let mut cursor = None;
    loop {
        let page = client.open_approvals(cursor.as_deref(), PAGE).await?;
        open.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    output::print(context, &open, |stream| {
        if open.is_empty() {
            return "no call waits for a decision".to_owned();
        }
        let mut grid = Grid::new(stream, &["TASK", "AGENT", "CALL", "TOOL", "ASKED", "REASON"]);
        let now = SystemClock::default().now();
        for asked in &open {
            grid.plain([
                asked.task.to_string().as_str(),
                asked.agent.as_str(),
                asked.call_id.as_str(),
                asked.tool.as_str(),
                words::relative(asked.asked_at, now).as_str(),
                asked.reason.as_str(),
            ]);
        }
        grid.finish()
    })?;
    Ok(Exit::Done)
}

/// Lists questions about calls for people.
pub(super) fn approval_table(stream: Stream, approvals: &[ApprovalView]) -> String {
    let mut grid = Grid::new(stream, &["CALL", "TOOL", "STATUS", "BY", "WHEN", "REASON"]);
    for approval in approvals {
        let when = approval.at.map(words::moment).unwrap_or_default();
        let reason = approval.decision_reason.as_deref().unwrap_or(&approval.reason);
        grid.plain([
            approval.call_id.as_str(),
            approval.tool.as_str(),
            approval.status.as_str(),
            approval.by.as_deref().unwrap_or_default(),
            when.as_str(),
            reason,
        ]);
    }
    grid.finish()
}
