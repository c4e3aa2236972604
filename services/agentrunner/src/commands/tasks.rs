//! `agentrunner tasks`: looking at tasks, and acting on them.

use clap::{Args, Subcommand};
use client::{Client, ListTasks};
use domain::{Clock as _, HumanDuration, SystemClock, TaskId, TaskStatus, ThreadId, Timestamp};
use serde_json::Value;
use std::fmt::Write as _;
use wire::{JournalStep, Page, SignalBody, TaskView, WaitingFor};

use super::approvals::{self, ApprovalsArgs};
use super::artifacts::{self, ArtifactsArgs};
use super::decisions::{self, ApproveArgs, DenyArgs, GrantArgs};
use super::run::{agent_name, answer_text, eprint_summary, exit_of};
use crate::context::Context;
use crate::exit::{CommandError, CommandResult, Exit};
use crate::follow::{Follow, Followed, Follower, Interrupt};
use crate::output::live::Telling;
use crate::output::{self, Color, Grid, words};
use crate::session::{Need, Session};
use crate::terminal::{Paint, Stream, Terminal};

/// Said after a change when nobody works on the tasks.
const RECORDED: &str = "recorded; no platform runs, so it goes on with the next `agentrunner dev` or `agentrunner run`";

/// What to do with tasks.
#[derive(Debug, Subcommand)]
pub enum TasksCommand {
    /// List tasks, the newest first.
    #[command(after_help = "Examples:
  agentrunner tasks list --status waiting,running
  agentrunner tasks list --agent assistant --limit 100 --output json | jq '.items[].id'")]
    List(ListArgs),
    /// Show a task with its answer, or what it waits for.
    #[command(after_help = "Example:
  agentrunner tasks show 0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10")]
    Show(OneTask),
    /// Show every finished step of a task.
    #[command(after_help = "Example:
  agentrunner tasks journal 0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10 --output json | jq '.[].type'")]
    Journal(OneTask),
    /// Follow a task as it happens, to its end; Ctrl-C leaves it alone.
    #[command(after_help = "Example:
  agentrunner tasks watch 0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10 --timeout 10m")]
    Watch(WatchArgs),
    /// Ask tasks to stop.
    #[command(after_help = "Example:
  agentrunner tasks cancel 0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10")]
    Cancel(SomeTasks),
    /// Begin failed or cancelled tasks again, after their last step.
    #[command(after_help = "Examples:
  agentrunner tasks retry 0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10
  agentrunner tasks retry --anew 0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10")]
    Retry(RetryArgs),
    /// Answer a task that waits for a person or a program.
    #[command(after_help = "Examples:
  agentrunner tasks signal 0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10 approve
  agentrunner tasks signal 0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10 '{\"paid\": true}' --json --name payment")]
    Signal(SignalArgs),
    /// Allow a call that needs a person's approval.
    ///
    /// Shows the very tool and arguments, and asks once more on a terminal. The first decision counts.
    #[command(after_help = "Examples:
  agentrunner tasks approve 0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10
  agentrunner tasks approve 0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10 call_1 --arguments '{\"amount\": 5}' --by kim")]
    Approve(ApproveArgs),
    /// Deny a call that needs a person's approval; the model is told why.
    #[command(after_help = "Example:
  agentrunner tasks deny 0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10 --reason 'ask ACME for the invoice first'")]
    Deny(DenyArgs),
    /// Raise a budget that does not allow a task's next call, for this task alone.
    #[command(after_help = "Examples:
  agentrunner tasks grant 0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10 --usd 1.50
  agentrunner tasks grant 0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10 --deny")]
    Grant(GrantArgs),
    /// List the files that are kept with a task, or download one.
    #[command(after_help = "Examples:
  agentrunner tasks artifacts 0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10
  agentrunner tasks artifacts 0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10 --download report.md --to q2.md")]
    Artifacts(ArtifactsArgs),
    /// List the calls of a task that people were asked about, or the open ones of all tasks.
    #[command(after_help = "Examples:
  agentrunner tasks approvals
  agentrunner tasks approvals 0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10")]
    Approvals(ApprovalsArgs),
}

/// Names a task.
#[derive(Debug, Args)]
pub struct OneTask {
    /// The task.
    pub task: TaskId,
}

/// Names tasks.
#[derive(Debug, Args)]
pub struct SomeTasks {
    /// The tasks.
    #[arg(required = true)]
    pub tasks: Vec<TaskId>,
}

/// Which tasks to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Of this agent.
    #[arg(long)]
    pub agent: Option<String>,
    /// In one of these statuses: queued, running, waiting, succeeded, failed, cancelled.
    #[arg(long, value_delimiter = ',')]
    pub status: Vec<TaskStatus>,
    /// Of this conversation.
    #[arg(long, value_name = "ID")]
    pub thread: Option<ThreadId>,
    /// Sub-tasks of this task.
    #[arg(long, value_name = "ID")]
    pub parent: Option<TaskId>,
    /// How many, 1 to 1000.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Goes on after a page: its `next_cursor`.
    #[arg(long)]
    pub cursor: Option<String>,
}

/// Which task to follow.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The task.
    pub task: TaskId,
    /// Stop watching after this time; the task goes on.
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<HumanDuration>,
}

/// Which tasks to begin again.
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// The tasks.
    #[arg(required = true)]
    pub tasks: Vec<TaskId>,
    /// From the beginning: what they did before no longer counts.
    #[arg(long)]
    pub anew: bool,
}

/// What to tell a task.
#[derive(Debug, Args)]
pub struct SignalArgs {
    /// The task.
    pub task: TaskId,
    /// The answer, as text; `--json` for another value.
    pub value: String,
    /// What the task waits for; needed only when it waits for several things, or not yet.
    #[arg(long)]
    pub name: Option<String>,
    /// The value is JSON.
    #[arg(long)]
    pub json: bool,
    /// Who answers.
    #[arg(long, env = "USER", hide_env = true)]
    pub from: Option<String>,
}

/// Does it.
pub async fn run(context: &Context, command: TasksCommand) -> CommandResult {
    let need = if matches!(command, TasksCommand::Watch(_)) { Need::Work(None) } else { Need::Record };
    let session = Session::open(context, need).await?;
    let result = act(context, &session, command).await;
    session.close().await;
    result
}

async fn act(context: &Context, session: &Session, command: TasksCommand) -> CommandResult {
    let client = &session.client;
    match command {
        TasksCommand::List(args) => list(context, client, args).await,
        TasksCommand::Show(args) => show(context, client, args.task).await,
        TasksCommand::Journal(args) => journal(context, client, args.task).await,
        TasksCommand::Watch(args) => watch(context, client, &args).await,
        TasksCommand::Cancel(args) => {
            let mut changed = Vec::new();
            for task in args.tasks {
                changed.push(client.cancel(task).await?);
            }
            changed_tasks(context, session, &changed)
        }
        TasksCommand::Retry(args) => {
            let mut changed = Vec::new();
            for task in args.tasks {
                changed.push(client.retry(task, !args.anew).await?);
            }
            changed_tasks(context, session, &changed)
        }
        TasksCommand::Signal(args) => signal(context, session, args).await,
        TasksCommand::Approve(args) => nobody_works(session, decisions::approve(context, session, args).await),
        TasksCommand::Deny(args) => nobody_works(session, decisions::deny(context, session, args).await),
        TasksCommand::Grant(args) => {
            let view = decisions::grant(context, session, args).await?;
            changed_tasks(context, session, &[view])
        }
        TasksCommand::Artifacts(args) => artifacts::run(context, client, args).await,
        TasksCommand::Approvals(args) => approvals::run(context, client, args.task).await,
    }
}

async fn list(context: &Context, client: &Client, args: ListArgs) -> CommandResult {
    let request = ListTasks {
        agent: args.agent.as_deref().map(agent_name).transpose()?,
        statuses: args.status,
        thread: args.thread,
        parent: args.parent,
        cursor: args.cursor,
        limit: Some(args.limit),
    };
    let page: Page<TaskView> = client.tasks(&request).await?;
    output::print(context, &page, |stream| {
        let mut table = task_table(stream, &page.items, SystemClock::default().now());
        if let Some(cursor) = &page.next_cursor {
            let _ = write!(table, "\n\nmore: --cursor {cursor}");
        }
        table
    })?;
    Ok(Exit::Done)
}

/// Lists tasks for people.
fn task_table(stream: Stream, tasks: &[TaskView], now: Timestamp) -> String {
    if tasks.is_empty() {
        return "no tasks".to_owned();
    }
    let mut grid = Grid::new(stream, &["ID", "AGENT", "STATUS", "CREATED", "TOOK", "TOKENS"]);
    for task in tasks {
        let took = match (task.started_at, task.finished_at) {
            (Some(start), Some(end)) => words::duration(words::between(start, end)),
            (Some(start), None) => words::duration(words::between(start, now)),
            (None, _) => String::new(),
        };
        grid.row([
            (task.id.to_string().as_str(), Color::Plain),
            (task.agent.as_str(), Color::Plain),
            (task.status.as_str(), status_color(task.status)),
            (words::relative(task.created_at, now).as_str(), Color::Plain),
            (took.as_str(), Color::Plain),
            (task.usage.total().to_string().as_str(), Color::Plain),
        ]);
    }
    grid.finish()
}

fn status_color(status: TaskStatus) -> Color {
    match status {
        TaskStatus::Succeeded => Color::Green,
        TaskStatus::Failed | TaskStatus::Cancelled => Color::Red,
        TaskStatus::Waiting => Color::Yellow,
        TaskStatus::Queued | TaskStatus::Running => Color::Plain,
    }
}

async fn show(context: &Context, client: &Client, task: TaskId) -> CommandResult {
    let view = client.task(task).await?;
    output::print(context, &view, |stream| task_page(stream, &view))?;
    Ok(Exit::Done)
}

fn task_page(stream: Stream, task: &TaskView) -> String {
    let mut grid = Grid::new(stream, &[]);
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            grid.plain([name, value]);
        }
    };
    let moment = |at: Option<Timestamp>| at.map(words::moment).unwrap_or_default();
    field("task", &task.id.to_string());
    field("agent", &format!("{} (version {})", task.agent, task.agent_version));
    field("status", if task.cancelling { "cancelling" } else { task.status.as_str() });
    for waiting in &task.waiting_for {
        field("waits for", &waiting_text(waiting));
    }
    field("created", &words::moment(task.created_at));
    field("started", &moment(task.started_at));
    field("finished", &moment(task.finished_at));
    field("deadline", &moment(task.deadline));
    field("thread", &task.thread_id.map(|thread| thread.to_string()).unwrap_or_default());
    field("parent", &task.parent.as_ref().map(|parent| parent.task.to_string()).unwrap_or_default());
    field("attempts", &if task.attempt > 0 { format!("{} failed", task.attempt) } else { String::new() });
    field("tokens", &format!("{} read, {} written", task.usage.input_tokens, task.usage.output_tokens));
    field("cost", &if task.usage.cost.is_zero() { String::new() } else { task.usage.cost.to_string() });
    for (name, value) in &task.metadata {
        field(name, value);
    }
    field("failure", &task.failure.as_ref().map(ToString::to_string).unwrap_or_default());
    let mut page = grid.finish();
    if let Some(how) = how_to_go_on(task) {
        let _ = write!(page, "\n\n{how}");
    }
    if let Some(output) = &task.output {
        let _ = write!(page, "\n\n{}", stream.text(&answer_text(output)));
    }
    page
}

/// What a person can do for a task that waits for one.
fn how_to_go_on(task: &TaskView) -> Option<String> {
    let id = task.id;
    task.waiting_for.iter().find_map(|waiting| match waiting {
        WaitingFor::Approval { .. } => {
            Some(format!("decide with: agentrunner tasks approve {id}, or agentrunner tasks deny {id} --reason WHY"))
        }
        WaitingFor::Budget { .. } => {
            Some(format!("decide with: agentrunner tasks grant {id} --usd DOLLARS, or --deny"))
        }
        WaitingFor::Signal { .. } => Some(format!("answer with: agentrunner tasks signal {id} ANSWER")),
        _ => None,
    })
}

/// What a task waits for, in words.
fn waiting_text(waiting: &WaitingFor) -> String {
    match waiting {
        WaitingFor::Signal { name, question, options, .. } if options.is_empty() => format!("{name}: {question}"),
        WaitingFor::Signal { name, question, options, .. } => format!("{name}: {question} [{}]", options.join(", ")),
        WaitingFor::Child { task, agent, .. } => format!("agent {agent} (task {task})"),
        WaitingFor::Timer { at, .. } | WaitingFor::RunAt { at } => format!("the moment {}", words::moment(*at)),
        WaitingFor::Backoff { until, attempt } => {
            format!("the next attempt at {} ({attempt} failed)", words::moment(*until))
        }
        WaitingFor::Thread { task } => format!("an earlier task of its conversation ({task})"),
        WaitingFor::Approval { call_id, tool, arguments, reason, .. } => {
            format!("permission to call {tool}, as {reason} (call {call_id}: {arguments})")
        }
        WaitingFor::Budget { account, limit, used, asked, .. } => {
            format!("a larger budget: {account} allows {limit}, {used} are used, the next call may take {asked}")
        }
        WaitingFor::Limit { gate, limit, position, .. } => format!("{gate}: {limit}; number {position} in line"),
        WaitingFor::Worker => "a free worker".to_owned(),
    }
}

async fn journal(context: &Context, client: &Client, task: TaskId) -> CommandResult {
    let steps = client.whole_journal(task).await?;
    output::print(context, &steps, |stream| journal_page(stream, &steps))?;
    Ok(Exit::Done)
}

/// A journal for people: what was said in full, calls and outcomes in a line each.
fn journal_page(stream: Stream, steps: &[JournalStep]) -> String {
    let mut page = String::new();
    for JournalStep(step) in steps {
        let at = stream.paint(Paint::Dim, &step.at.format("%H:%M:%S%.3f").to_string());
        let kind = kind(step);
        let _ = writeln!(page, "{:>3}  {at}  {}", step.seq, stream.paint(Paint::Bold, &kind));
        for line in output::steps(step) {
            let text = stream.text(line.text.trim_end()).replace('\n', "\n       ");
            let _ = writeln!(page, "     {} {text}", line.mark.sign());
        }
    }
    page
}

/// A step's type as its JSON has it, and who did it.
fn kind(step: &domain::Step) -> String {
    use domain::StepBody;
    match &step.body {
        StepBody::Input(_) => "input".to_owned(),
        StepBody::Model(model) => {
            let took = words::duration(std::time::Duration::from_millis(model.duration_ms));
            let usage = model.total_usage();
            let cost = if usage.cost.is_zero() { String::new() } else { format!(" · {}", usage.cost) };
            format!("model  {} · {}{cost} · {took}", model.model, words::count(usage.total(), "token"))
        }
        StepBody::Tried { tries } => format!("tried  {}", words::count(tries.len() as u64, "model call")),
        StepBody::ToolStarted { tool, .. } => format!("tool_started  {tool}"),
        StepBody::Tool(tool) => format!("tool  {}", tool.tool),
        StepBody::Probed { tool, .. } => format!("probed  {tool}"),
        StepBody::Rejected { .. } => "rejected".to_owned(),
        StepBody::Parked { .. } => "parked".to_owned(),
        StepBody::Resolved { .. } => "resolved".to_owned(),
        StepBody::AttemptFailed { .. } => "attempt_failed".to_owned(),
        StepBody::LeaseLost { .. } => "lease_lost".to_owned(),
        StepBody::Retried { .. } => "retried".to_owned(),
    }
}

async fn watch(context: &Context, client: &Client, args: &WatchArgs) -> CommandResult {
    let Terminal { stdout, stderr, can_ask } = context.terminal;
    let follow = Follow {
        telling: Telling { stdout, stderr, speak: true, tell: true },
        can_ask,
        interrupt: Interrupt::Leaves,
        patience: args.timeout.map(|timeout| timeout.0),
    };
    let mut follower = Follower::new(client, args.task, follow);
    match follower.run().await? {
        Followed::Ended(view) => {
            eprint_summary(context.terminal, &view, follower.live.steps(), follower.live.model());
            Ok(exit_of(&view))
        }
        Followed::Left => Ok(Exit::Interrupted),
        Followed::TimedOut => {
            follower.live.note("the task has not ended yet; it goes on")?;
            Ok(Exit::TimedOut)
        }
    }
}

async fn signal(context: &Context, session: &Session, args: SignalArgs) -> CommandResult {
    let value = if args.json {
        serde_json::from_str(&args.value)
            .map_err(|error| CommandError::usage(format!("the value is not JSON: {error}")))?
    } else {
        Value::String(args.value)
    };
    let name = match args.name {
        Some(name) => name,
        None => the_open_signal(&session.client, args.task).await?,
    };
    let body = SignalBody { name, value, from: args.from.filter(|from| !from.is_empty()) };
    let view = session.client.signal(args.task, &body, None).await?;
    changed_tasks(context, session, &[view])
}

/// The one signal that a task waits for.
async fn the_open_signal(client: &Client, task: TaskId) -> Result<String, CommandError> {
    let view = client.task(task).await?;
    let mut open: Vec<&str> = view
        .waiting_for
        .iter()
        .filter_map(|waiting| match waiting {
            WaitingFor::Signal { name, .. } => Some(name.as_str()),
            _ => None,
        })
        .collect();
    open.dedup();
    match open[..] {
        [name] => Ok(name.to_owned()),
        [] => Err(CommandError::failed(format!("task {task} is {} and waits for no answer", view.status))
            .hint("name what it will wait for with --name: the answer is then kept for it")),
        _ => Err(CommandError::usage(format!("task {task} waits for several answers: {}", open.join(", ")))
            .hint("choose one with --name")),
    }
}

/// Says that a decision waits for a platform, when none runs.
fn nobody_works(session: &Session, done: CommandResult) -> CommandResult {
    if session.is_own() && done.as_ref().is_ok_and(|exit| *exit == Exit::Done) {
        eprintln!("{RECORDED}");
    }
    done
}

/// Prints tasks that were changed, and says when nobody works on them.
fn changed_tasks(context: &Context, session: &Session, views: &[TaskView]) -> CommandResult {
    output::print(context, &views, |stream| task_table(stream, views, SystemClock::default().now()))?;
    if session.is_own() && views.iter().any(|task| !task.status.is_terminal()) {
        eprintln!("{RECORDED}");
    }
    Ok(Exit::Done)
}
