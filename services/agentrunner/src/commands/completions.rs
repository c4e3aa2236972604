//! `agentrunner completions`: a script that teaches a shell the command line.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::{CommandResult, Exit};

/// The arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  agentrunner completions bash > /etc/bash_completion.d/agentrunner
  source <(agentrunner completions zsh)
  agentrunner completions fish > ~/.config/fish/completions/agentrunner.fish")]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Prints the script.
pub fn run(args: &CompletionsArgs) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "agentrunner", &mut script);
    std::io::Write::write_all(&mut std::io::stdout().lock(), &script)?;
    Ok(Exit::Done)
}
