//! Order of start, nothing else.

use std::process::ExitCode;

use clap::Parser as _;

use agentrunner::cli::Cli;
use agentrunner::terminal::Terminal;

fn main() -> ExitCode {
    // A tool server's program is supervised by this binary, too.
    if let Some(code) = connect::tools::run_if_asked() {
        return code;
    }
    let cli = Cli::parse();
    let stderr = Terminal::of_process(cli.globals.no_color).stderr;
    common::tls::install();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: could not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(agentrunner::commands::run(cli));
    // A thread that still reads the terminal must not hold the process.
    runtime.shutdown_background();
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            error.print(stderr);
            error.exit.into()
        }
    }
}
