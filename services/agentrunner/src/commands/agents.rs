//! `agentrunner agents`: looking at agents, and checking their files.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use client::Client;
use domain::agent::{self, AgentSpec, FileProblem, MAX_FILE_BYTES};
use serde::Serialize;
use serde_json::Value;
use wire::{AgentStatus, AgentView};

use super::run::agent_name;
use crate::context::Context;
use crate::exit::{CommandError, CommandResult, Exit};
use crate::output::{self, Color, Grid};
use crate::session::{Need, Session, load};
use crate::terminal::{Paint, Stream};

/// What to do with agents.
#[derive(Debug, Subcommand)]
pub enum AgentsCommand {
    /// List the agents and what they do at the moment.
    #[command(after_help = "Example:
  agentrunner agents list --output json | jq -r '.[].name'")]
    List,
    /// Show one agent and its file.
    #[command(after_help = "Example:
  agentrunner agents show assistant --output yaml")]
    Show(ShowArgs),
    /// Check agents' files without a platform; exit code 2 when one is wrong.
    #[command(after_help = "Examples:
  agentrunner agents validate config/agents/*.yml
  agentrunner agents validate config/agents")]
    Validate(ValidateArgs),
}

/// Which agent.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The agent.
    pub name: String,
}

/// Which files.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// Files, or folders of them.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Does it.
pub async fn run(context: &Context, command: AgentsCommand) -> CommandResult {
    if let AgentsCommand::Validate(args) = command {
        return validate(context, &args.files);
    }
    let session = Session::open(context, Need::Record).await?;
    let result = match command {
        AgentsCommand::List => list(context, &session.client).await,
        AgentsCommand::Show(args) => show(context, &session.client, &args.name).await,
        AgentsCommand::Validate(_) => Ok(Exit::Done),
    };
    session.close().await;
    result
}

async fn list(context: &Context, client: &Client) -> CommandResult {
    let agents = client.agents().await?;
    output::print(context, &agents, |stream| table(stream, &agents))?;
    Ok(Exit::Done)
}

fn table(stream: Stream, agents: &[AgentView]) -> String {
    if agents.is_empty() {
        return "no agents: put one into the agents' folder (config/agents)".to_owned();
    }
    let mut grid = Grid::new(stream, &["NAME", "STATUS", "MODE", "MODEL", "VERSION", "DESCRIPTION"]);
    for agent in agents {
        let color = match agent.status {
            AgentStatus::Idle => Color::Plain,
            AgentStatus::Busy => Color::Green,
            AgentStatus::Waiting | AgentStatus::Degraded | AgentStatus::Paused => Color::Yellow,
        };
        grid.row([
            (agent.name.as_str(), Color::Plain),
            (agent.status.as_str(), color),
            (agent.execution_mode.as_str(), Color::Plain),
            (agent.model.as_str(), Color::Plain),
            (agent.version.to_string().as_str(), Color::Plain),
            (agent.description.as_str(), Color::Plain),
        ]);
    }
    grid.finish()
}

async fn show(context: &Context, client: &Client, name: &str) -> CommandResult {
    let view = client.agent(&agent_name(name)?).await?;
    // Only the config service knows the file; without one the rest is still worth showing.
    let file = client.config(name).await.ok();
    let mut value = serde_json::to_value(&view).unwrap_or_default();
    if let (Value::Object(fields), Some(file)) = (&mut value, &file) {
        fields.insert("config".to_owned(), file.clone());
    }
    output::print(context, &value, |stream| page(stream, &view, file.as_ref()))?;
    Ok(Exit::Done)
}

fn page(stream: Stream, agent: &AgentView, file: Option<&Value>) -> String {
    let mut grid = Grid::new(stream, &[]);
    let work = format!("{} running, {} queued, {} waiting", agent.running, agent.queued, agent.waiting);
    for (name, value) in [
        ("agent", agent.name.as_str()),
        ("description", &agent.description),
        ("status", agent.status.as_str()),
        ("tasks", &work),
        ("mode", agent.execution_mode.as_str()),
        ("model", &agent.model),
        ("tools", &agent.tools.join(", ")),
        ("version", &agent.version.to_string()),
    ] {
        if !value.is_empty() {
            grid.plain([name, value]);
        }
    }
    let mut page = grid.finish();
    if let Some(text) = file.and_then(|file| serde_saphyr::to_string(file).ok()) {
        let _ = write!(page, "\n\n{}", stream.text(&text));
    }
    page
}

/// What is to be said about a file.
#[derive(Debug, Serialize)]
struct Checked {
    file: String,
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    problems: Vec<FileProblem>,
}

fn validate(context: &Context, paths: &[PathBuf]) -> CommandResult {
    let servers = load(context).map(|settings| settings.process.servers()).unwrap_or_default();
    let mut checked = Vec::new();
    for path in paths {
        for file in files_of(path)? {
            checked.push(check(&file, &servers));
        }
    }
    output::print(context, &checked, |stream| {
        let lines: Vec<String> = checked.iter().flat_map(|file| report(stream, file)).collect();
        lines.join("\n")
    })?;
    Ok(if checked.iter().all(|file| file.valid) { Exit::Done } else { Exit::Usage })
}

/// The file itself, or the agents' files of a folder.
pub fn files_of(path: &Path) -> Result<Vec<PathBuf>, CommandError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = |error| CommandError::usage(format!("{} cannot be read: {error}", path.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let is_yaml = file.extension().is_some_and(|ending| ending == "yml" || ending == "yaml");
        if is_yaml && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(CommandError::usage(format!("{} has no agents' files (*.yml)", path.display())));
    }
    Ok(files)
}

/// Checks one file as the config service would.
fn check(path: &Path, servers: &[String]) -> Checked {
    let file = path.display().to_string();
    let result = match read(path) {
        Ok(text) => agent::parse_for(&file, &text, servers),
        Err(reason) => Err(vec![FileProblem::of_file(&file, reason)]),
    };
    match result {
        Ok(spec) => Checked { file, valid: true, agent: Some(spec.name.to_string()), problems: Vec::new() },
        Err(problems) => Checked { file, valid: false, agent: None, problems },
    }
}

/// What a file says, when it is right.
pub fn spec_of(path: &Path, servers: &[String]) -> Option<AgentSpec> {
    agent::parse_for("", &read(path).ok()?, servers).ok()
}

/// What is wrong with a file; nothing when all is well.
pub fn problems_of(path: &Path, servers: &[String]) -> Vec<FileProblem> {
    check(path, servers).problems
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
    // One byte more than is allowed is enough to know that it is too large.
    let limit = MAX_FILE_BYTES as u64 + 1;
    file.take(limit).read_to_end(&mut text).map_err(|error| format!("cannot be read: {error}"))?;
    Ok(text)
}

fn report(stream: Stream, file: &Checked) -> Vec<String> {
    match &file.agent {
        Some(agent) => {
            vec![format!("{}: {} (agent {agent})", stream.text(&file.file), stream.paint(Paint::Green, "ok"))]
        }
        None => file.problems.iter().map(|problem| stream.text(&problem.to_string()).into_owned()).collect(),
    }
}
