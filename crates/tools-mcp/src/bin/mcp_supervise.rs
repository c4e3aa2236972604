//! Supervises a server's program, for processes whose own binary does not; `agentrunner` does it itself.

use std::process::ExitCode;

fn main() -> ExitCode {
    tools_mcp::supervisor::run_if_asked().unwrap_or_else(|| {
        eprintln!("usage: mcp-supervise mcp-supervise PROGRAM [ARGUMENT]...");
        ExitCode::from(2)
    })
}
