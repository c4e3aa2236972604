//! `agentrunner run`: one task, told as it happens.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::time::Duration;

use clap::Args;
use domain::{AgentName, FailureKind, HumanDuration, Ids as _, SystemIds, TaskStatus, ThreadId};
use serde::Serialize;
use serde_json::Value;
use wire::{JournalStep, SubmitTask, TaskView};

use crate::context::Context;
use crate::exit::{CommandError, CommandResult, Exit};
use crate::follow::{Follow, Followed, Follower, Interrupt};
use crate::output::live::Telling;
use crate::output::{self, words};
use crate::session::{Need, Session};
use crate::terminal::{Paint, Terminal};

/// The longest prompt that is read; the platform takes 1 MiB and says so.
const PROMPT_MAX: u64 = 4 * 1024 * 1024;

/// The arguments.
#[derive(Debug, Args)]
#[command(
    after_help = crate::exit::CODES,
    after_long_help = concat!("\
Uses the platform that runs (see --url), else one in this process with the same durable record: what is interrupted goes
on with the next `agentrunner run` or `agentrunner dev`.

Ctrl-C asks the task to stop; a second one leaves it as it is.

Examples:
  agentrunner run assistant \"What is the capital of France?\"
  agentrunner run web-researcher \"What does https://example.com say?\" --timeout 2m
  cat report.txt | agentrunner run editor -
  agentrunner run invoice-extractor - --json < invoice.txt | jq .output
  agentrunner run demo-approval \"Send the letter\"
"))]
pub struct RunArgs {
    /// The agent.
    pub agent: String,
    /// What it is asked to do; `-` reads it from standard input.
    pub prompt: String,
    /// Further data for the agent, as JSON.
    #[arg(long, value_name = "JSON")]
    pub data: Option<String>,
    /// The conversation that the task belongs to; a new id begins one.
    #[arg(long, value_name = "ID")]
    pub thread: Option<ThreadId>,
    /// Print one JSON object at the end: task, output, journal.
    #[arg(long)]
    pub json: bool,
    /// Cancel the task when it has not ended by then, as `30s` or `5m`.
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<HumanDuration>,
    /// Print the model's words as they come even when the output is not a terminal; else only the final answer.
    #[arg(long, conflicts_with = "json")]
    pub stream: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Told {
    task: TaskView,
    output: Option<Value>,
    journal: Vec<JournalStep>,
}

/// Runs a task.
pub async fn run(context: &Context, args: RunArgs) -> CommandResult {
    let request = request(&args)?;
    let session = Session::open(context, Need::Work(Some(&args.agent))).await?;
    let result = follow(context, &session, &args, &request).await;
    session.close().await;
    result
}

fn request(args: &RunArgs) -> Result<SubmitTask, CommandError> {
    let prompt = if args.prompt == "-" { read_prompt()? } else { args.prompt.clone() };
    let mut request = SubmitTask::new(agent_name(&args.agent)?, prompt);
    request.data = args.data.as_deref().map(parse_data).transpose()?;
    request.thread_id = args.thread;
    Ok(request)
}

/// Checks an agent's name.
pub fn agent_name(text: &str) -> Result<AgentName, CommandError> {
    AgentName::new(text).map_err(|error| CommandError::usage(format!("the agent's name {text:?} {error}")))
}

/// Reads the JSON of `--data`.
pub fn parse_data(text: &str) -> Result<Value, CommandError> {
    serde_json::from_str(text).map_err(|error| CommandError::usage(format!("--data is not JSON: {error}")))
}

/// Reads a prompt from standard input.
pub fn read_prompt() -> Result<String, CommandError> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(PROMPT_MAX).read_to_end(&mut bytes);
    read.map_err(|error| CommandError::usage(format!("standard input could not be read: {error}")))?;
    let text = String::from_utf8(bytes);
    text.map_err(|_| CommandError::usage("standard input is not UTF-8; put binary content elsewhere and name it"))
}

async fn follow(context: &Context, session: &Session, args: &RunArgs, request: &SubmitTask) -> CommandResult {
    // A key of its own, so that a submit whose answer was lost can be repeated.
    let key = SystemIds.uuid().to_string();
    let task = session.client.submit_with_key(request, &key).await?.task;
    let Terminal { stdout, stderr, can_ask } = context.terminal;
    let follow = Follow {
        telling: Telling { stdout, stderr, speak: (stdout.tty || args.stream) && !args.json, tell: !args.json },
        can_ask: can_ask && !args.json && args.prompt != "-",
        interrupt: Interrupt::Cancels,
        patience: args.timeout.map(|timeout| timeout.0),
    };
    let mut follower = Follower::new(&session.client, task.id, follow);
    let (view, exit) = match follower.run().await? {
        Followed::Ended(view) => {
            let exit = exit_of(&view);
            (*view, exit)
        }
        Followed::TimedOut => {
            let limit = words::duration(follow.patience.unwrap_or(Duration::ZERO));
            let ended = follower.cancel().await?;
            follower.live.note(&format!("the task had not ended within {limit} and was cancelled"))?;
            match ended {
                // It ended in the very last moment.
                Some(view) if view.status == TaskStatus::Succeeded => (view, Exit::Done),
                Some(view) => (view, Exit::TimedOut),
                None => return Ok(Exit::TimedOut),
            }
        }
        Followed::Left => {
            let go_on = if session.is_own() {
                "it goes on with the next `agentrunner run` or `agentrunner dev`"
            } else {
                "it goes on"
            };
            let id = task.id;
            follower.live.note(&format!("\nleft task {id}: {go_on}; watch it with: agentrunner tasks watch {id}"))?;
            return Ok(Exit::Interrupted);
        }
    };
    if args.json {
        let journal = session.client.whole_journal(view.id).await?;
        let output = view.output.clone();
        output::line(&output::json(&Told { task: view, output, journal }, stdout)?)?;
        return Ok(exit);
    }
    if let Some(output) = &view.output {
        follower.live.answer(&answer_text(output))?;
    }
    eprint_summary(context.terminal, &view, follower.live.steps(), follower.live.model());
    Ok(exit)
}

/// How the command ends when the task has.
pub fn exit_of(view: &TaskView) -> Exit {
    let late = |kind| matches!(kind, FailureKind::DeadlineExceeded | FailureKind::Expired);
    match (view.status, &view.failure) {
        (TaskStatus::Succeeded, _) => Exit::Done,
        (TaskStatus::Cancelled, _) => Exit::Cancelled,
        (_, Some(failure)) if late(failure.kind) => Exit::TimedOut,
        _ => Exit::Failed,
    }
}

/// An answer as it is printed: words as they are, JSON as JSON.
pub fn answer_text(output: &Value) -> String {
    match output {
        Value::String(text) => text.trim_end_matches('\n').to_owned(),
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    }
}

/// Says how the task ended.
pub fn eprint_summary(terminal: Terminal, view: &TaskView, steps: u64, model: Option<&str>) {
    let stderr = terminal.stderr;
    let took = view.finished_at.map(|end| words::duration(words::between(view.created_at, end)));
    let tokens = words::count(view.usage.total(), "token");
    let about = if view.usage.estimated { "about " } else { "" };
    let mut parts = vec![words::count(steps, "step"), format!("{about}{tokens}")];
    parts.extend(model.map(str::to_owned));
    let paint = if view.status == TaskStatus::Succeeded { Paint::Green } else { Paint::Red };
    let status = stderr.paint(paint, view.status.as_str());
    let took = took.map_or_else(String::new, |took| format!(" in {took}"));
    let mut text = format!("\n{status}{took} · {}\n", stderr.text(&parts.join(" · ")));
    if let Some(failure) = &view.failure {
        let _ = writeln!(text, "{}", stderr.text(&failure.to_string()));
    }
    let id = view.id;
    text.push_str(&stderr.paint(Paint::Dim, &format!("task {id} — see every step: agentrunner tasks journal {id}")));
    // A terminal that went away is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{text}");
}
