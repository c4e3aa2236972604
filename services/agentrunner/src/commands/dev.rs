//! `agentrunner dev`: the whole platform in this process, until it is stopped.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use common::lifecycle::Lifecycle;

use crate::context::Context;
use crate::exit::{CommandError, CommandResult, Exit};
use crate::models::{Prepared, prepare};
use crate::output::{self, Grid};
use crate::platform::discovery::{CONFIG_SERVICE, ORCHESTRATOR};
use crate::platform::{Plan, Platform, PortChoice, Settings};
use crate::session::{init_telemetry, load};
use crate::terminal::{Paint, Stream};

/// The arguments.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Listens on the loopback interface: agent-orchestrator :8003, config-service :8002, state-manager :8001, pool :8011. Everything
durable is in the data folder; kill it at any moment, start it again, and the work goes on.

SIGTERM or Ctrl-C stops it in order: tasks go on to their next step and are given back (AGENT_SHUTDOWN_TIMEOUT, 30s). A
second signal ends it at once. Settings come from the environment, see docs/operations.md.

Examples:
  agentrunner dev
  agentrunner dev --data /var/lib/agentrunner --agents ./agents
  agentrunner dev --port-offset 100
  LOG_LEVEL=debug LOG_FORMAT=json agentrunner dev --ports random")]
pub struct DevArgs {
    /// The folder with everything that must survive, over --data-dir.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The address to listen at [default: 127.0.0.1]. There is no authentication: let only those reach it whom you trust.
    #[arg(long, value_name = "IP")]
    pub host: Option<IpAddr>,
    /// Shifts all ports, so that several platforms fit on one machine.
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "ports",
          value_parser = clap::value_parser!(u16).range(0..=50_000))]
    pub port_offset: u16,
    /// `random` takes free ports, which agentrunner.json in the data folder tells.
    #[arg(long, value_enum)]
    pub ports: Option<Ports>,
}

/// Which ports to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ports {
    /// The usual ones.
    Usual,
    /// Free ones.
    Random,
}

/// Runs the platform.
pub async fn run(mut context: Context, args: DevArgs) -> CommandResult {
    context.name_data(args.data);
    let mut settings = load(&context)?;
    let ports = match args.ports {
        Some(Ports::Random) => PortChoice::Random,
        Some(Ports::Usual) | None => PortChoice::Usual(args.port_offset),
    };
    settings.listen(args.host, ports);
    let _telemetry = init_telemetry(&settings, "info")?;
    let stop = Lifecycle::new();
    stop.listen_to_signals()?;
    let prepared = tokio::select! {
        prepared = prepare(&context, &settings, None) => prepared?,
        () = stop.soft().cancelled() => return Ok(Exit::Done),
    };
    let plan = Plan { data: context.data.clone(), pool: true, transient: false };
    let platform = Platform::start(&settings, &plan, prepared.models.clone()).await?;
    // A banner that nobody can read any more is no reason to stop.
    let _ = output::line(&banner(context.terminal.stdout, &context.data, &settings, &platform, &prepared));
    platform.follow_models(prepared.watch);
    tokio::select! {
        () = stop.soft().cancelled() => {}
        () = platform.died() => tracing::error!("a part of the platform died, stopping"),
    }
    match platform.stop(settings.process.agent_shutdown_timeout.0).await {
        0 => Ok(Exit::Done),
        _ => Err(CommandError::failed("the platform did not stop in order; the log above says which part of it")),
    }
}

fn banner(stdout: Stream, data: &Path, settings: &Settings, platform: &Platform, prepared: &Prepared) -> String {
    let url = |name: &str| platform.urls.get(name).cloned().unwrap_or_default();
    let agents = &settings.configs.agent_config_dir;
    let mut grid = Grid::new(stdout, &[]);
    grid.plain(["  tasks and agents", &url(ORCHESTRATOR), "the API's pages are under /docs"]);
    grid.plain(["  agents' files", &url(CONFIG_SERVICE), &format!("reads {}", agents.display())]);
    grid.plain(["  record", &url("state-manager"), &format!("kept in {}", data.display())]);
    grid.plain(["  pool", &url("agent-pool"), &format!("{} tasks at once", settings.pool.agent_pool_capacity)]);
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!("{}\n\n{}\n", stdout.paint(Paint::Bold, &format!("AgentRunner {version}")), grid.finish());
    let model = match prepared.models.default_name() {
        Some(name) => format!("{name}{}", prepared.why().map(|why| format!(": {why}")).unwrap_or_default()),
        None => "none is configured: `agentrunner doctor` says what to do".to_owned(),
    };
    let _ = write!(text, "\n  model  {}\n", stdout.text(&model));
    for problem in platform.agent_problems() {
        let mark = stdout.paint(Paint::Yellow, "!");
        let _ = writeln!(text, "  {mark} {}", stdout.text(&problem.to_string()));
    }
    let at = if url(ORCHESTRATOR) == crate::session::USUAL_URL {
        String::new()
    } else {
        format!(" --url {}", url(ORCHESTRATOR))
    };
    let example = format!("agentrunner run{at} assistant \"What is the capital of France?\"");
    let _ = write!(text, "\nTry, in another terminal:  {}\n", stdout.paint(Paint::Cyan, &example));
    text.push_str("Stop with Ctrl-C.\n");
    text
}
