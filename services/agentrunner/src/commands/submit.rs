//! `agentrunner submit`: one task, or many as JSON lines.

use std::io::{BufRead, BufReader, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use client::Client;
use domain::{TaskId, TaskStatus};
use futures::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wire::SubmitTask;

use super::run::{agent_name, parse_data, read_prompt};
use crate::cli::Format;
use crate::context::Context;
use crate::exit::{CommandError, CommandResult, Exit};
use crate::follow::interrupts;
use crate::output;
use crate::session::{Need, Session};
use crate::terminal::one_line;

/// The longest line; the platform takes 2 MiB and says so.
const LINE_MAX: u64 = 8 * 1024 * 1024;
/// After so many lines in a row that the platform could not take, the rest is not tried.
const REFUSALS_MAX: u64 = 20;
/// How long `--wait` waits for one task.
const PATIENCE: Duration = Duration::from_secs(366 * 24 * 3_600);

/// The arguments.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Many tasks come as JSON lines, each the body of `POST /tasks`:
  {\"agent\": \"assistant\", \"prompt\": \"Say hello.\", \"metadata\": {\"team\": \"finance\"}}

The ids are printed in the order of the lines. A line that is wrong or refused is reported with its number, the others are
submitted all the same, and the exit code is 1. With --key-prefix every line has an idempotency key made of its number, so
that the same file can be submitted again after an interruption without doing anything twice.

Examples:
  agentrunner submit assistant \"Say hello.\"
  agentrunner submit --file tasks.jsonl --key-prefix monday --wait
  generate-tasks | agentrunner submit - --concurrency 64 > ids.txt")]
#[command(after_help = crate::exit::CODES)]
pub struct SubmitArgs {
    /// The agent, or `-` for JSON lines on standard input.
    #[arg(required_unless_present = "file")]
    pub agent: Option<String>,
    /// What it is asked to do; `-` reads it from standard input.
    #[arg(conflicts_with = "file")]
    pub prompt: Option<String>,
    /// JSON lines from this file; AGENT is then the agent of lines without one.
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Further data for the agent, as JSON.
    #[arg(long, value_name = "JSON", requires = "prompt")]
    pub data: Option<String>,
    /// Submitting the same key again names the first task instead of making another.
    #[arg(long, requires = "prompt")]
    pub key: Option<String>,
    /// What limits per key count it under, such as a customer; of lines, those without one.
    #[arg(long, value_name = "KEY")]
    pub limit_key: Option<String>,
    /// Makes an idempotency key for every line: PREFIX-NUMBER.
    #[arg(long, value_name = "PREFIX", conflicts_with = "prompt")]
    pub key_prefix: Option<String>,
    /// How many are submitted (and with --wait, run) at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,
    /// Wait until the tasks have ended; exit code 1 when one did not succeed.
    #[arg(long)]
    pub wait: bool,
}

/// One line of the input.
#[derive(Debug)]
struct Line {
    number: u64,
    task: Result<Box<SubmitTask>, String>,
}

/// What became of a line.
#[derive(Debug, Serialize)]
struct Outcome {
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<TaskId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<TaskStatus>,
    /// False when the key already named the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The platform could not take it, whatever it was.
    #[serde(skip)]
    unavailable: bool,
}

/// Submits.
pub async fn run(context: &Context, args: SubmitArgs) -> CommandResult {
    let lines = input(&args)?;
    let need = if args.wait { Need::Work(None) } else { Need::Record };
    // Unlike a look at the record, a submit may begin it.
    std::fs::create_dir_all(&context.data)
        .map_err(|error| CommandError::unreachable(format!("{} cannot be made: {error}", context.data.display())))?;
    let session = Session::open(context, need).await?;
    let result = submit_all(context, &session, &args, lines).await;
    session.close().await;
    result
}

async fn submit_all(context: &Context, session: &Session, args: &SubmitArgs, lines: Lines) -> CommandResult {
    let progress = progress(context, lines.total);
    // Ends the input; what is under way is still told.
    let stop = CancellationToken::new();
    let taken = lines.stream().take_until(stop.clone().cancelled_owned());
    let jobs = taken.map(|line| one(&session.client, args.wait, line, &stop));
    let mut outcomes = std::pin::pin!(jobs.buffered(usize::from(args.concurrency)));
    let mut interrupts = interrupts()?;
    let mut tally = Tally::default();
    let mut told = Vec::new();
    let mut interrupted = false;
    loop {
        let outcome = tokio::select! {
            biased;
            _ = interrupts.recv() => {
                if interrupted {
                    break;
                }
                interrupted = true;
                stop.cancel();
                continue;
            }
            outcome = outcomes.next() => match outcome {
                Some(outcome) => outcome,
                None => break,
            },
        };
        tally.count(&outcome, args.wait);
        if tally.refused_in_a_row >= REFUSALS_MAX {
            stop.cancel();
        }
        progress.suspend(|| report(context, &outcome, args.wait))?;
        progress.inc(1);
        if context.format != Format::Table {
            told.push(outcome);
        }
    }
    progress.finish_and_clear();
    if context.format != Format::Table {
        output::print(context, &told, |_| String::new())?;
    }
    let Tally { well, badly, refused_in_a_row } = tally;
    let done = if args.wait { "succeeded" } else { "submitted" };
    if well + badly != 1 {
        eprintln!("{well} {done}, {badly} not");
    }
    if interrupted {
        eprintln!("interrupted; with --key-prefix the same input can be submitted again");
        return Ok(Exit::Interrupted);
    }
    if refused_in_a_row >= REFUSALS_MAX {
        let message = "the platform takes no tasks at the moment; the rest of the input was not submitted";
        return Err(CommandError::unreachable(message).hint("with --key-prefix the same input can be submitted again"));
    }
    if session.is_own() && !args.wait && well > 0 {
        eprintln!("recorded; no platform runs, so the work begins with the next `agentrunner dev`");
    }
    Ok(if badly == 0 { Exit::Done } else { Exit::Failed })
}

/// How the lines fared.
#[derive(Debug, Default)]
struct Tally {
    well: u64,
    badly: u64,
    refused_in_a_row: u64,
}

impl Tally {
    fn count(&mut self, outcome: &Outcome, wait: bool) {
        if outcome.error.is_none() && (!wait || outcome.status == Some(TaskStatus::Succeeded)) {
            self.well += 1;
        } else {
            self.badly += 1;
        }
        self.refused_in_a_row = if outcome.unavailable { self.refused_in_a_row + 1 } else { 0 };
    }
}

/// Submits one line, and waits for its end if that is wanted.
async fn one(client: &Client, wait: bool, line: Line, stop: &CancellationToken) -> Outcome {
    let mut outcome =
        Outcome { line: line.number, id: None, status: None, created: None, error: None, unavailable: false };
    let task = match line.task {
        Ok(task) => task,
        Err(error) => return Outcome { error: Some(error), ..outcome },
    };
    match client.submit(&task).await {
        Ok(submitted) => {
            outcome.id = Some(submitted.task.id);
            outcome.status = Some(submitted.task.status);
            outcome.created = Some(submitted.created);
        }
        Err(error) => {
            let unavailable = error.is_transient();
            return Outcome { error: Some(crate::exit::chain(&error)), unavailable, ..outcome };
        }
    }
    if wait && let Some(id) = outcome.id {
        tokio::select! {
            waited = client.wait(id, PATIENCE) => match waited {
                Ok(view) => outcome.status = Some(view.status),
                Err(error) => outcome.error = Some(crate::exit::chain(&error)),
            },
            () = stop.cancelled() => {}
        }
    }
    outcome
}

/// Tells what became of a line, at once: ids on standard output, errors beside it.
fn report(context: &Context, outcome: &Outcome, wait: bool) -> Result<(), CommandError> {
    if let Some(error) = &outcome.error {
        eprintln!("line {}: {}", outcome.line, context.terminal.stderr.text(error));
    }
    if context.format == Format::Table
        && let Some(id) = outcome.id
    {
        match outcome.status {
            Some(status) if wait => output::line(&format!("{id} {status}"))?,
            _ => output::line(&id.to_string())?,
        }
    }
    Ok(())
}

/// The input, read on a thread of its own as fast as it is submitted.
struct Lines {
    lines: mpsc::Receiver<Line>,
    /// How many there are, when that is known.
    total: Option<u64>,
}

impl Lines {
    fn stream(mut self) -> impl futures::Stream<Item = Line> {
        stream::poll_fn(move |context| self.lines.poll_recv(context))
    }
}

fn input(args: &SubmitArgs) -> Result<Lines, CommandError> {
    let terms = Terms { agent: None, key_prefix: args.key_prefix.clone(), limit_key: args.limit_key.clone() };
    if let Some(file) = &args.file {
        let total = count_lines(file)
            .map_err(|error| CommandError::usage(format!("{} cannot be read: {error}", file.display())))?;
        let opened = std::fs::File::open(file)
            .map_err(|error| CommandError::usage(format!("{} cannot be read: {error}", file.display())))?;
        let terms = Terms { agent: args.agent.clone(), ..terms };
        return Ok(Lines { lines: read_lines(opened, terms), total: Some(total) });
    }
    let agent = args.agent.as_deref().unwrap_or("-");
    let Some(prompt) = &args.prompt else {
        if agent != "-" {
            let hint = "`agentrunner submit AGENT PROMPT`, or `agentrunner submit -` for JSON lines";
            return Err(CommandError::usage("a prompt is missing").hint(hint));
        }
        if std::io::stdin().is_terminal() {
            eprintln!("reading JSON lines from the terminal; end with Ctrl-D");
        }
        return Ok(Lines { lines: read_lines(std::io::stdin(), terms), total: None });
    };
    let prompt = if prompt == "-" { read_prompt()? } else { prompt.clone() };
    let mut task = SubmitTask::new(agent_name(agent)?, prompt);
    task.data = args.data.as_deref().map(parse_data).transpose()?;
    task.idempotency_key.clone_from(&args.key);
    task.limit_key.clone_from(&args.limit_key);
    let (sender, lines) = mpsc::channel(1);
    // There is room for one.
    let _ = sender.try_send(Line { number: 1, task: Ok(Box::new(task)) });
    Ok(Lines { lines, total: Some(1) })
}

/// What is added to lines.
#[derive(Debug, Clone)]
struct Terms {
    agent: Option<String>,
    key_prefix: Option<String>,
    limit_key: Option<String>,
}

fn count_lines(file: &Path) -> std::io::Result<u64> {
    let mut count = 0;
    let mut reader = BufReader::with_capacity(1 << 20, std::fs::File::open(file)?);
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok(count);
        }
        count += chunk.split(|byte| *byte == b'\n').count() as u64 - 1;
        let read = chunk.len();
        reader.consume(read);
    }
}

fn read_lines(input: impl std::io::Read + Send + 'static, terms: Terms) -> mpsc::Receiver<Line> {
    let (sender, lines) = mpsc::channel(64);
    let read = move || {
        let mut input = BufReader::new(input);
        for number in 1.. {
            let text = match next_line(&mut input) {
                Ok(None) => return,
                Ok(Some(text)) => text,
                Err(error) => {
                    let _ = sender.blocking_send(Line { number, task: Err(format!("cannot be read: {error}")) });
                    return;
                }
            };
            if text.as_ref().is_ok_and(|text| text.iter().all(u8::is_ascii_whitespace)) {
                continue;
            }
            let task = text.and_then(|text| parse(&text, number, &terms)).map(Box::new);
            if sender.blocking_send(Line { number, task }).is_err() {
                return;
            }
        }
    };
    // Without the thread there are no lines, and the command says that none were submitted.
    let _ = std::thread::Builder::new().name("input-lines".to_owned()).spawn(read);
    lines
}

/// Reads a line; of one that is too long nothing is kept.
fn next_line(input: &mut impl BufRead) -> std::io::Result<Option<Result<Vec<u8>, String>>> {
    let mut line = Vec::new();
    input.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.len() as u64 == LINE_MAX && line.last() != Some(&b'\n') {
        loop {
            line.clear();
            input.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)?;
            if line.is_empty() || line.last() == Some(&b'\n') {
                return Ok(Some(Err(format!("is longer than {LINE_MAX} bytes"))));
            }
        }
    }
    Ok(Some(Ok(line)))
}

fn parse(text: &[u8], number: u64, terms: &Terms) -> Result<SubmitTask, String> {
    let mut value: Value = serde_json::from_slice(text).map_err(|error| format!("is not JSON: {error}"))?;
    let Value::Object(fields) = &mut value else {
        return Err(format!("is not an object with `agent` and `prompt`: {}", one_line(&value.to_string(), 60)));
    };
    if let Some(agent) = &terms.agent {
        fields.entry("agent").or_insert_with(|| agent.as_str().into());
    }
    let mut task: SubmitTask = serde_json::from_value(value).map_err(|error| error.to_string())?;
    if let Some(prefix) = &terms.key_prefix {
        task.idempotency_key.get_or_insert_with(|| format!("{prefix}-{number}"));
    }
    if task.limit_key.is_none() {
        task.limit_key.clone_from(&terms.limit_key);
    }
    Ok(task)
}

fn progress(context: &Context, total: Option<u64>) -> ProgressBar {
    if !context.terminal.stderr.tty || total == Some(1) {
        return ProgressBar::hidden();
    }
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{bar:40} {pos}/{len}  {per_sec}  {eta} left"),
        None => (ProgressBar::no_length(), "{spinner} {pos} done  {per_sec}"),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(agent: Option<&str>, prefix: Option<&str>) -> Terms {
        Terms { agent: agent.map(str::to_owned), key_prefix: prefix.map(str::to_owned), limit_key: None }
    }

    #[test]
    fn lines_may_leave_out_what_the_command_line_says() {
        let task = parse(br#"{"prompt": "hi"}"#, 7, &terms(Some("assistant"), Some("monday"))).unwrap();
        assert_eq!(task.agent.as_str(), "assistant");
        assert_eq!(task.idempotency_key.as_deref(), Some("monday-7"));
        let of = |line: &[u8]| {
            let terms = Terms { limit_key: Some("ann".to_owned()), ..terms(Some("a"), None) };
            parse(line, 1, &terms).unwrap().limit_key
        };
        assert_eq!(of(br#"{"prompt": "hi"}"#).as_deref(), Some("ann"));
        assert_eq!(of(br#"{"prompt": "hi", "limit_key": "bob"}"#).as_deref(), Some("bob"));
        let task = parse(br#"{"agent": "b", "prompt": "hi", "idempotency_key": "k"}"#, 7, &terms(Some("a"), Some("p")));
        let task = task.unwrap();
        assert_eq!((task.agent.as_str(), task.idempotency_key.as_deref()), ("b", Some("k")));
    }

    #[test]
    fn wrong_lines_say_what_is_wrong() {
        for (line, reason) in [
            ("{", "is not JSON"),
            ("[1]", "is not an object"),
            (r#"{"prompt": "hi"}"#, "agent"),
            (r#"{"agent": "a", "promt": "hi"}"#, "promt"),
            (r#"{"agent": "Not A Name", "prompt": "hi"}"#, "must match"),
        ] {
            let error = parse(line.as_bytes(), 1, &terms(None, None)).unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }

    #[test]
    fn lines_are_numbered_as_in_the_file() {
        let mut lines = read_lines(
            &b"\n{\"agent\": \"a\", \"prompt\": \"x\"}\n  \nnonsense\n{\"agent\": \"a\", \"prompt\": \"y\"}"[..],
            terms(None, None),
        );
        let mut seen = Vec::new();
        while let Some(line) = lines.blocking_recv() {
            seen.push((line.number, line.task.is_ok()));
        }
        assert_eq!(seen, [(2, true), (4, false), (5, true)]);
    }
}
