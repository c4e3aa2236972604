//! The command line: what there is, and what all commands share.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands;
use crate::exit;

/// Runs LLM agents as durable services: an agent is a YAML file, a task is journaled step by step, and any process may be
/// killed at any moment.
#[derive(Debug, Parser)]
#[command(
    name = "agentrunner",
    version,
    propagate_version = true,
    max_term_width = 110,
    after_help = exit::CODES,
    after_long_help = concat!(
        "Examples:\n",
        "  agentrunner run assistant \"What is the capital of France?\"\n",
        "  agentrunner dev\n",
        "  agentrunner tasks list --status waiting\n",
        "  agentrunner doctor\n",
    )
)]
pub struct Cli {
    /// What all commands share.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What all commands share.
#[derive(Debug, Clone, Args)]
pub struct Globals {
    /// The orchestrator of a running platform. Without it, the platform that runs in the data folder is used; then, unless
    /// a data folder was named, the one at http://127.0.0.1:8003; then one in this process.
    #[arg(long, global = true, env = "AGENTRUNNER_URL", value_name = "URL", help_heading = "Global options")]
    pub url: Option<String>,
    /// The folder with everything that must survive, for platforms in this process [default: data].
    #[arg(long, global = true, env = "AGENTRUNNER_DATA", value_name = "DIR", help_heading = "Global options")]
    pub data_dir: Option<PathBuf>,
    /// The folder with the agents' files, for platforms in this process [default: AGENT_CONFIG_DIR, else config/agents].
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub agents: Option<PathBuf>,
    /// How results are printed.
    #[arg(long, short, global = true, value_enum, default_value = "table", help_heading = "Global options")]
    pub output: Format,
    /// No colours, as with the variable NO_COLOR.
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_color: bool,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON value.
    Json,
    /// The same as YAML.
    Yaml,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the whole platform in this process.
    Dev(commands::dev::DevArgs),
    /// Run one task and print its answer as it comes.
    Run(commands::run::RunArgs),
    /// Look at agents, and check their files.
    #[command(subcommand)]
    Agents(commands::agents::AgentsCommand),
    /// Look at tasks, and act on them.
    #[command(subcommand)]
    Tasks(commands::tasks::TasksCommand),
    /// Show what work costs, and what it may cost.
    Budgets(commands::budgets::BudgetsArgs),
    /// Submit tasks: one, or many as JSON lines.
    Submit(commands::submit::SubmitArgs),
    /// Look at models, and fetch them.
    #[command(subcommand)]
    Models(commands::models::ModelsCommand),
    /// Look at the servers that bring tools, and decide what of them is believed.
    #[command(subcommand)]
    Tools(commands::tools::ToolsCommand),
    /// Say what is configured, what is missing and what to do.
    Doctor(commands::doctor::DoctorArgs),
    /// Measure how many durable tasks this machine does.
    Bench(commands::bench::BenchArgs),
    /// Print a completion script for a shell.
    Completions(commands::completions::CompletionsArgs),
}
