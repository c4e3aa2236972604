//! One command a file.

pub mod agents;
pub mod approvals;
pub mod artifacts;
pub mod bench;
pub mod budgets;
pub mod completions;
pub mod decisions;
pub mod dev;
pub mod doctor;
pub mod models;
pub mod run;
pub mod submit;
pub mod tasks;
pub mod tools;

use crate::cli::{Cli, Command};
use crate::context::Context;
use crate::exit::CommandResult;

/// Runs what the command line asks for.
pub async fn run(cli: Cli) -> CommandResult {
    let context = Context::new(cli.globals);
    match cli.command {
        Command::Dev(args) => dev::run(context, args).await,
        Command::Run(args) => run::run(&context, args).await,
        Command::Agents(command) => agents::run(&context, command).await,
        Command::Budgets(args) => budgets::run(&context, args).await,
        Command::Tasks(command) => tasks::run(&context, command).await,
        Command::Submit(args) => submit::run(&context, args).await,
        Command::Models(command) => models::run(&context, command).await,
        Command::Tools(command) => tools::run(&context, command).await,
        Command::Doctor(args) => doctor::run(context, args).await,
        Command::Bench(args) => bench::run(context, args).await,
        Command::Completions(args) => completions::run(&args),
    }
}
