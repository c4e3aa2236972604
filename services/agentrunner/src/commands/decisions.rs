//! `agentrunner tasks approve`, `deny` and `grant`: what people decide about calls and money.

use std::path::Path;

use clap::Args;
use client::Client;
use domain::TaskId;
use serde_json::Value;
use wire::{AmountView, ApprovalStatus, ApprovalView, DecideApproval, DecideBudget, Decision, TaskView, WaitingFor};

use super::approvals::approval_table;
use crate::context::Context;
use crate::exit::{CommandError, CommandResult, Exit};
use crate::follow::questions::permission;
use crate::output::{self, words};
use crate::session::Session;

/// The largest file of arguments that is read; the platform takes 256 KiB and says so.
const ARGUMENTS_MAX: u64 = 1024 * 1024;

/// Which call may be made.
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// Which decision, and by whom.
    #[command(flatten)]
    pub about: About,
    /// Make the call with these arguments instead: JSON, or @FILE.
    #[arg(long, value_name = "JSON|@FILE")]
    pub arguments: Option<String>,
    /// Why.
    #[arg(long)]
    pub reason: Option<String>,
}

/// Which call may not be made.
#[derive(Debug, Args)]
pub struct DenyArgs {
    /// Which decision, and by whom.
    #[command(flatten)]
    pub about: About,
    /// Why; the model is told.
    #[arg(long)]
    pub reason: String,
}

/// Which call is decided about, and by whom.
#[derive(Debug, Args)]
pub struct About {
    /// The task.
    pub task: TaskId,
    /// The call; may be left out when one call waits.
    pub call: Option<String>,
    /// Decide only if the call has this digest, as it was shown before.
    #[arg(long)]
    pub digest: Option<String>,
    /// Who decides; the journal keeps it.
    #[arg(long, env = "USER", hide_env = true)]
    pub by: Option<String>,
    /// Do not ask again on a terminal.
    #[arg(long, short)]
    pub yes: bool,
}

/// What a task may use beyond its budget.
#[derive(Debug, Args)]
pub struct GrantArgs {
    /// The task.
    pub task: TaskId,
    /// The question; may be left out when one waits.
    pub question: Option<String>,
    /// US dollars.
    #[arg(long, value_name = "DOLLARS")]
    pub usd: Option<f64>,
    /// Tokens.
    #[arg(long, value_name = "N")]
    pub tokens: Option<u64>,
    /// Model calls.
    #[arg(long, value_name = "N")]
    pub model_calls: Option<u64>,
    /// Tool calls.
    #[arg(long, value_name = "N")]
    pub tool_calls: Option<u64>,
    /// Grant nothing: the task stops.
    #[arg(long, conflicts_with_all = ["usd", "tokens", "model_calls", "tool_calls"])]
    pub deny: bool,
    /// Who decides; the journal keeps it.
    #[arg(long, env = "USER", hide_env = true)]
    pub by: Option<String>,
}

/// Allows a call.
pub(super) async fn approve(context: &Context, session: &Session, args: ApproveArgs) -> CommandResult {
    let arguments = args.arguments.as_deref().map(read_arguments).transpose()?;
    decide(context, session, args.about, Decision::Approve, arguments, args.reason).await
}

/// Denies a call.
pub(super) async fn deny(context: &Context, session: &Session, args: DenyArgs) -> CommandResult {
    decide(context, session, args.about, Decision::Deny, None, Some(args.reason)).await
}

async fn decide(
    context: &Context,
    session: &Session,
    about: About,
    decision: Decision,
    arguments: Option<Value>,
    reason: Option<String>,
) -> CommandResult {
    let by = who(about.by)?;
    let open = the_open_call(&session.client, about.task, about.call.as_deref()).await?;
    if about.digest.is_some_and(|digest| digest != open.digest) {
        return Err(CommandError::failed("the call is not the one with this digest any more: nothing was decided")
            .hint("look at it again with `agentrunner tasks show`"));
    }
    let stderr = context.terminal.stderr;
    let mut shown = permission(&open.tool, &open.arguments, &open.reason);
    if let Some(arguments) = &arguments {
        let edited = serde_json::to_string_pretty(arguments).unwrap_or_default();
        let edited = crate::terminal::neutral_json(&edited).replace('\n', "\n  ");
        shown = format!("{shown}\n  instead, with these arguments:\n  {edited}");
    }
    eprintln!("{}", stderr.text(&shown));
    let verb = if decision == Decision::Approve { "approve" } else { "deny" };
    if context.terminal.can_ask && !about.yes && !confirmed(verb)? {
        return Err(CommandError::failed("nothing was decided"));
    }
    let body = DecideApproval { decision, digest: open.digest, arguments, reason, by };
    let view = session.client.decide(about.task, &open.call_id, &body).await?;
    output::print(context, &view, |stream| approval_table(stream, std::slice::from_ref(&view)))?;
    Ok(Exit::Done)
}

/// Raises a budget, or does not.
pub(super) async fn grant(context: &Context, session: &Session, args: GrantArgs) -> Result<TaskView, CommandError> {
    let by = who(args.by)?;
    let GrantArgs { task, question, usd, tokens, model_calls, tool_calls, deny, .. } = args;
    let grant = AmountView { usd, tokens, model_calls, tool_calls };
    if !deny && grant == AmountView::default() {
        return Err(
            CommandError::usage("say what is granted").hint("for example --usd 0.50, or --deny to stop the task")
        );
    }
    let call_id = match question {
        Some(question) => question,
        None => the_open_budget(context, &session.client, task).await?,
    };
    let body = DecideBudget { call_id, grant: (!deny).then_some(grant), deny, by };
    Ok(session.client.decide_budget(task, &body).await?)
}

fn who(by: Option<String>) -> Result<String, CommandError> {
    let missing = || CommandError::usage("say who decides with --by: the journal keeps it");
    by.filter(|by| !by.is_empty()).ok_or_else(missing)
}

fn read_arguments(text: &str) -> Result<Value, CommandError> {
    let text = match text.strip_prefix('@') {
        Some(file) => read_file(Path::new(file))?,
        None => text.to_owned(),
    };
    let value: Value = serde_json::from_str(&text)
        .map_err(|error| CommandError::usage(format!("the arguments are not JSON: {error}")))?;
    if value.is_object() { Ok(value) } else { Err(CommandError::usage("the arguments must be a JSON object")) }
}

fn read_file(file: &Path) -> Result<String, CommandError> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(ARGUMENTS_MAX).read_to_string(&mut text));
    read.map_err(|error| CommandError::usage(format!("{} cannot be read: {error}", file.display())))?;
    Ok(text)
}

/// The one call of a task that waits for a decision, or the one that was named.
async fn the_open_call(client: &Client, task: TaskId, call: Option<&str>) -> Result<ApprovalView, CommandError> {
    let approvals = client.approvals(task).await?;
    let named = |approval: &ApprovalView| call.is_none_or(|call| approval.call_id == call);
    let mut open: Vec<ApprovalView> = approvals
        .iter()
        .filter(|approval| approval.status == ApprovalStatus::Open && named(approval))
        .cloned()
        .collect();
    match (open.pop(), open.is_empty()) {
        (Some(approval), true) => Ok(approval),
        (Some(last), false) => {
            let calls: Vec<&str> = open.iter().chain([&last]).map(|approval| approval.call_id.as_str()).collect();
            Err(CommandError::usage(format!("several calls of task {task} wait: {}", calls.join(", ")))
                .hint("name one of them after the task"))
        }
        (None, _) => {
            let last = approvals.iter().rev().find(|approval| named(approval));
            Err(CommandError::failed(match last {
                Some(past) => {
                    format!("nothing waits: call {} was {}{}", past.call_id, past.status.as_str(), by_whom(past))
                }
                None => format!("no call of task {task} waits for a decision"),
            }))
        }
    }
}

fn by_whom(approval: &ApprovalView) -> String {
    let by = approval.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let at = approval.at.map(|at| format!(" at {}", words::moment(at))).unwrap_or_default();
    by + &at
}

/// The one budget question of a task.
async fn the_open_budget(context: &Context, client: &Client, task: TaskId) -> Result<String, CommandError> {
    let view = client.task(task).await?;
    let open = view.waiting_for.iter().filter_map(|waiting| match waiting {
        WaitingFor::Budget { call_id, account, limit, used, asked, .. } => Some((
            call_id.clone(),
            format!("{account} allows {limit}, {used} are used, and the next call may take {asked}"),
        )),
        _ => None,
    });
    let open: Vec<(String, String)> = open.collect();
    match &open[..] {
        [(call_id, words)] => {
            eprintln!("{}", context.terminal.stderr.text(words));
            Ok(call_id.clone())
        }
        [] => Err(CommandError::failed(format!("task {task} is {} and waits for no budget", view.status))),
        several => {
            let ids: Vec<&str> = several.iter().map(|(id, _)| id.as_str()).collect();
            Err(CommandError::usage(format!("task {task} waits for several budgets: {}", ids.join(", ")))
                .hint("name one of them after the task"))
        }
    }
}

fn confirmed(verb: &str) -> Result<bool, CommandError> {
    eprint!("{verb} this call? [y/N] ");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_an_object_given_here_or_in_a_file() {
        assert_eq!(read_arguments("{\"a\": 1}").unwrap(), serde_json::json!({ "a": 1 }));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("arguments.json");
        std::fs::write(&file, "{\"b\": 2}").unwrap();
        assert_eq!(read_arguments(&format!("@{}", file.display())).unwrap(), serde_json::json!({ "b": 2 }));
        for wrong in ["[1]", "a", "@/no/such/file"] {
            assert_eq!(read_arguments(wrong).unwrap_err().exit, Exit::Usage, "{wrong}");
        }
    }

    #[test]
    fn nobody_decides_without_a_name() {
        assert!(who(None).is_err() && who(Some(String::new())).is_err());
        assert_eq!(who(Some("kim".to_owned())).unwrap(), "kim");
    }
}
