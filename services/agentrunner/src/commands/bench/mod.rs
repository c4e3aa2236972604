//! `agentrunner bench`: how many durable tasks this machine does.
//!
//! A closed loop: so many tasks are in flight, and each flight is one task after another: submit and wait until it is
//! committed, wait until the task has ended, read its answer from the record. The agent is scripted, everything else is
//! the ordinary platform on a real disk.

mod door;
mod flight;
mod report;
mod sample;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent_orchestrator::app::Tasks;
use clap::Args;
use client::Client;
use domain::{AgentName, Ids as _, SystemClock, SystemIds};
use llm::scripted::{Dialogue, Scripted};
use llm::{Models, Provider};

use super::run::agent_name;
use crate::context::Context;
use crate::exit::{CommandError, CommandResult, Exit};
use crate::output;
use crate::platform::{Plan, Platform, PortChoice, orchestrator_deps};
use crate::session::{load, quiet_telemetry};
use door::{Door, Ends};
use flight::fly;
use report::{Load, Report, Round};
use sample::Used;

pub use sample::in_memory;

/// The scripted agent and its model.
const AGENT: &str = "bench";

/// Limits of every kind, out of reach.
const LIMITS: &str = "\
budget: {usd: 1000000, tokens: 1000000000000, tool_calls: 1000000000, per_hour: {usd: 1000000, tokens: 1000000000000}, per_day: {model_calls: 1000000000}}
queue: {concurrency: 1000000, rate: {starts: 1000000, per: 1s}}
";

/// The arguments.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Submits tasks of a scripted agent in a closed loop. Nothing is faked: every task is submitted, committed with a sync of the
disk, announced, claimed, run step by step, each step journaled before the next begins, and its answer read back. The first
tasks are a warm-up that does not count. Numbers are medians over the rounds; compare only numbers of one sitting, of a
release build.

Examples:
  agentrunner bench
  agentrunner bench --concurrency 1 --tasks 2000
  agentrunner bench --repeat 5 --json
  agentrunner bench --http
  agentrunner bench --limits
  agentrunner bench --url http://127.0.0.1:8003 --agent demo-tools --tasks 100")]
pub struct BenchArgs {
    /// How many tasks a round has.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub tasks: u32,
    /// How many steps a task journals, its input not counted; 2 become 3.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub steps: u32,
    /// How large the prompt and each step's content is.
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..=500_000))]
    pub bytes: u32,
    /// How many tasks are in flight.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub concurrency: u32,
    /// How many rounds there are.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub repeat: u32,
    /// Go through REST on the loopback interface instead of calling the use cases.
    #[arg(long)]
    pub http: bool,
    /// Switch every limit on: budgets that each call is reserved in and settled with, and limits on what runs and starts at
    /// once, all too large to be reached.
    #[arg(long)]
    pub limits: bool,
    /// Measure an agent of the platform that --url names instead of one in this process.
    #[arg(long, requires = "url", value_name = "NAME")]
    pub agent: Option<String>,
    /// Beside which folder the benchmark's own folder is made: it must be on the disk to be measured.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Measures.
pub async fn run(mut context: Context, args: BenchArgs) -> CommandResult {
    if args.json {
        context.format = crate::cli::Format::Json;
    }
    let report = match &context.url {
        Some(url) => elsewhere(url, &args).await?,
        None => here(&context, &args).await?,
    };
    output::print(&context, &report, |stream| report.table(stream))?;
    Ok(Exit::Done)
}

/// Measures a platform that runs already; what it uses is not ours to see.
async fn elsewhere(url: &str, args: &BenchArgs) -> Result<Report, CommandError> {
    let name = agent_name(args.agent.as_deref().unwrap_or(AGENT))?;
    let client = Client::new(url)?;
    let load = load_of(args, "rest, another process");
    // Another agent's answers have another size.
    let bytes = if args.agent.is_some() { 0 } else { args.bytes as usize };
    let rounds = rounds(&Door::Rest(client), name, bytes, args, false).await?;
    Ok(Report::new(load, None, rounds))
}

async fn here(context: &Context, args: &BenchArgs) -> Result<Report, CommandError> {
    let folder = Folder::make(args.data.as_deref().unwrap_or(&context.data), args.limits)?;
    let mut settings = load(context)?;
    settings.listen(Some([127, 0, 0, 1].into()), PortChoice::Random);
    settings.agents_dir(Some(&folder.agents()));
    let _telemetry = quiet_telemetry(&settings)?;
    let plan = Plan { data: folder.data(), pool: true, transient: true };
    let platform = Platform::start(&settings, &plan, models(args)).await?;
    let measured = measure(&platform, args).await;
    platform.stop(Duration::from_secs(10)).await;
    let in_memory = in_memory(&folder.dir);
    let load = load_of(args, if args.http { "rest, one process" } else { "one process" });
    Ok(Report::new(load, Some(in_memory), measured?))
}

async fn measure(platform: &Platform, args: &BenchArgs) -> Result<Vec<Round>, CommandError> {
    let door = if args.http {
        Door::Rest(Client::new(platform.url())?)
    } else {
        let tasks = Tasks::new(&agent_orchestrator::Config::default(), &orchestrator_deps(&platform.ports));
        Door::Direct { tasks, ends: Ends::listen(&*platform.ports.events).await? }
    };
    rounds(&door, agent_name(AGENT)?, args.bytes as usize, args, true).await
}

async fn rounds(
    door: &Door,
    agent: AgentName,
    bytes: usize,
    args: &BenchArgs,
    own: bool,
) -> Result<Vec<Round>, CommandError> {
    let concurrency = args.concurrency as usize;
    let plan = flight::Plan {
        agent,
        prompt_bytes: args.bytes as usize,
        answer_bytes: bytes,
        concurrency,
        clock: Arc::new(SystemClock::default()),
    };
    fly(&plan, door, warm_up(args)).await?;
    let mut rounds = Vec::new();
    for _ in 0..args.repeat {
        let before = Used::now();
        let flown = fly(&plan, door, args.tasks as usize).await?;
        let used = own.then(|| Used::now().since(before));
        rounds.push(Round::of(flown, steps(args), used));
    }
    Ok(rounds)
}

/// How many steps the dialogue really makes: two cannot be had.
fn steps(args: &BenchArgs) -> u32 {
    if args.steps == 2 { 3 } else { args.steps }
}

/// Enough to open connections, fill caches and reach the usual size of a commit.
fn warm_up(args: &BenchArgs) -> usize {
    (args.tasks as usize / 10).clamp(1, 2_000).max((args.concurrency as usize).min(args.tasks as usize))
}

fn load_of(args: &BenchArgs, door: &'static str) -> Load {
    Load {
        door,
        tasks: args.tasks,
        steps: steps(args),
        bytes: args.bytes,
        concurrency: args.concurrency,
        repeat: args.repeat,
        warm_up: warm_up(args),
        limits: args.limits,
        release: !cfg!(debug_assertions),
    }
}

/// The scripted model and nothing else.
fn models(args: &BenchArgs) -> Models {
    let scripted = Scripted::new();
    scripted.add(AGENT, Dialogue::steps(args.steps as usize, args.bytes as usize));
    let provider =
        Provider { chat: Arc::new(scripted), models: vec![AGENT.to_owned()], note: "plays the benchmark".to_owned() };
    let mut models = Models::default();
    models.add("scripted", provider);
    // A budget of money takes no model without a price; a price above nothing makes its sums real.
    let cents = |cents: f64| domain::Usd::from_dollars(cents / 100.0);
    let price = llm::Price { input: cents(10.0), output: cents(40.0), cached_input: None, cache_write: None };
    let terms =
        llm::ModelTerms { price: Some(price), context_window: None, max_output_tokens: None, embeddings: false };
    models.describe("scripted/*", terms);
    models
}

/// The benchmark's own folder; removed when it is dropped.
struct Folder {
    dir: PathBuf,
}

impl Folder {
    /// Makes it beside `data`, so on the same disk.
    fn make(data: &Path, limits: bool) -> Result<Self, CommandError> {
        let name = format!(".agentrunner-bench-{}", SystemIds.uuid());
        let beside = data.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = Self { dir: beside.join(name) };
        let text = format!(
            "name: {AGENT}\nmodel: scripted/{AGENT}\ntools: [echo]\nlimits: {{max_steps: 10000, max_tool_calls: 10000, \
             max_tokens: 1000000000}}\n{}",
            if limits { LIMITS } else { "" }
        );
        let made = std::fs::create_dir_all(folder.agents())
            .and_then(|()| std::fs::write(folder.agents().join("bench.yml"), text));
        made.map_err(|error| {
            CommandError::unreachable(format!("{} cannot be made: {error}", folder.dir.display()))
                .hint("name a folder on a disk that can be written to with --data")
        })?;
        Ok(folder)
    }

    fn agents(&self) -> PathBuf {
        self.dir.join("agents")
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::warn!(dir = %self.dir.display(), %error, "the benchmark's folder could not be removed");
        }
    }
}
