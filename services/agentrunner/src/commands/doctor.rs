//! `agentrunner doctor`: what is configured, what is missing, what to do.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use clap::Args;
use client::Client;
use serde::Serialize;

use super::agents::{files_of, problems_of};
use crate::context::Context;
use crate::exit::{CommandError, CommandResult, Exit};
use crate::models;
use crate::output::{self, Color, Grid};
use crate::platform::Settings;
use crate::platform::discovery::Running;
use crate::session::{USUAL_URL, load};
use crate::terminal::Stream;

/// The arguments.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  everything that is needed is there
  1  something is missing or wrong

Examples:
  agentrunner doctor
  agentrunner doctor --output json | jq '.[] | select(.status != \"ok\")'")]
pub struct DoctorArgs {
    /// The data folder to look at, over --data-dir.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, but it is worth a look.
    Warning,
    /// It does not work.
    Error,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: String,
    /// How it is.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Finding {
    /// It is as it should be.
    pub fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), status: Status::Ok, detail: detail.into(), hint: None }
    }

    /// It is worth a look, or does not work.
    pub fn bad(name: &str, status: Status, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name: name.to_owned(), status, detail: detail.into(), hint: Some(hint.into()) }
    }
}

/// Looks at everything.
pub async fn run(mut context: Context, args: DoctorArgs) -> CommandResult {
    context.name_data(args.data);
    let mut findings = vec![Finding::ok("version", env!("CARGO_PKG_VERSION"))];
    let platform = running(&context).await;
    match load(&context) {
        Ok(settings) => {
            findings.push(Finding::ok("settings", "understood"));
            findings.push(platform.finding());
            findings.push(data_folder(&context.data, platform.is_running()));
            findings.extend(agent_files(&settings.configs.agent_config_dir, &settings.process.servers()));
            findings.extend(ports(&settings, platform.is_running()));
            findings.extend(models::examine(&settings).await);
        }
        Err(error) => findings.push(wrong_settings(&error)),
    }
    output::print(&context, &findings, |stream| table(stream, &findings))?;
    Ok(if findings.iter().any(|finding| finding.status == Status::Error) { Exit::Failed } else { Exit::Done })
}

fn wrong_settings(error: &CommandError) -> Finding {
    let hint = "correct them in the environment or in the file that AGENTRUNNER_CONFIG names";
    Finding::bad("settings", Status::Error, error.message.clone(), hint)
}

/// The platform that commands would use.
enum Found {
    Runs(String),
    Silent { url: String, named: bool },
}

impl Found {
    fn is_running(&self) -> bool {
        matches!(self, Self::Runs(_))
    }

    fn finding(&self) -> Finding {
        match self {
            Self::Runs(url) => Finding::ok("platform", format!("answers at {url}")),
            Self::Silent { url, named: true } => Finding::bad(
                "platform",
                Status::Error,
                format!("none answers at {url}"),
                "check --url and AGENTRUNNER_URL, or start one with `agentrunner dev`",
            ),
            Self::Silent { named: false, .. } => {
                Finding::ok("platform", "none runs; `agentrunner dev` starts one, `agentrunner run` does without")
            }
        }
    }
}

async fn running(context: &Context) -> Found {
    let announced = Running::find(&context.data).and_then(|running| running.url().map(str::to_owned));
    let named = context.url.is_some();
    let url = context.url.clone().or(announced);
    for url in url.iter().map(String::as_str).chain((!named && !context.data_named).then_some(USUAL_URL)) {
        if let Ok(client) = Client::new(url)
            && client.healthy().await
        {
            return Found::Runs(url.to_owned());
        }
    }
    Found::Silent { url: url.unwrap_or_else(|| USUAL_URL.to_owned()), named }
}

fn data_folder(data: &Path, in_use: bool) -> Finding {
    let shown = data.display();
    if !data.exists() {
        let parent = data.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        return match writable(parent) {
            Ok(()) => Finding::ok("data folder", format!("{shown} will be made")),
            Err(error) => cannot_write(&format!("{shown} cannot be made: {error}")),
        };
    }
    match writable(data) {
        Ok(()) if in_use => Finding::ok("data folder", format!("{shown} can be written")),
        Ok(()) if crate::commands::bench::in_memory(data) => Finding::bad(
            "data folder",
            Status::Warning,
            format!("{shown} is kept in memory and is lost when the machine stops"),
            "choose a folder on a disk with --data-dir or AGENTRUNNER_DATA",
        ),
        Ok(()) => Finding::ok("data folder", format!("{shown} can be written")),
        Err(error) => cannot_write(&format!("{shown} cannot be written: {error}")),
    }
}

fn cannot_write(detail: &str) -> Finding {
    let hint = "choose another folder with --data-dir or AGENTRUNNER_DATA";
    Finding::bad("data folder", Status::Error, detail, hint)
}

fn writable(dir: &Path) -> std::io::Result<()> {
    let probe = dir.join(format!(".agentrunner-doctor-{}", std::process::id()));
    std::fs::write(&probe, "")?;
    std::fs::remove_file(&probe)
}

fn agent_files(dir: &Path, servers: &[String]) -> Vec<Finding> {
    let files = match files_of(dir) {
        Ok(files) if dir.is_dir() => files,
        Ok(_) => {
            let hint = "name the folder with --agents or AGENT_CONFIG_DIR, or begin with a copy of config/agents";
            return vec![Finding::bad("agents", Status::Error, format!("{} is no folder", dir.display()), hint)];
        }
        Err(error) => {
            let hint = "write one: docs/agent-file.md shows how";
            return vec![Finding::bad("agents", Status::Warning, error.message, hint)];
        }
    };
    let problems: Vec<_> = files.iter().flat_map(|file| problems_of(file, servers)).collect();
    if problems.is_empty() {
        let count = crate::output::words::count(files.len() as u64, "file");
        return vec![Finding::ok("agents", format!("{count} in {}, all of them right", dir.display()))];
    }
    let hint = "the agent's last good version stays in service until the file is right";
    problems.iter().map(|problem| Finding::bad("agents", Status::Warning, problem.to_string(), hint)).collect()
}

fn ports(settings: &Settings, running: bool) -> Vec<Finding> {
    if running {
        return Vec::new();
    }
    let taken: Vec<SocketAddr> =
        settings.addresses().into_iter().filter(|address| TcpListener::bind(address).is_err()).collect();
    if taken.is_empty() {
        let ports: Vec<String> = settings.ports().iter().map(ToString::to_string).collect();
        return vec![Finding::ok("ports", format!("{} are free", ports.join(", ")))];
    }
    let hint = "`agentrunner dev --port-offset 100` or `--ports random` avoids it";
    taken
        .iter()
        .map(|address| Finding::bad("ports", Status::Warning, format!("{address} is in use by another program"), hint))
        .collect()
}

fn table(stream: Stream, findings: &[Finding]) -> String {
    let mut grid = Grid::new(stream, &[]);
    for finding in findings {
        let (sign, color) = match finding.status {
            Status::Ok => ("ok", Color::Green),
            Status::Warning => ("look", Color::Yellow),
            Status::Error => ("WRONG", Color::Red),
        };
        grid.row([(sign, color), (finding.name.as_str(), Color::Plain), (finding.detail.as_str(), Color::Plain)]);
        if let Some(hint) = &finding.hint {
            grid.plain(["", "", &format!("→ {hint}")]);
        }
    }
    grid.finish()
}
