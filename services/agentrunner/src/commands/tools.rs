//! `agentrunner tools`: looking at the servers that bring tools, and deciding what of them is believed.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use connect::tools::{LoginError, McpTools};
use serde_json::Value;
use wire::{ToolServerView, ToolView};

use crate::context::Context;
use crate::exit::{CommandError, CommandResult, Exit, chain};
use crate::output::{self, Color, Grid};
use crate::session::{Need, Session, load};
use crate::terminal::{Paint, Stream};

/// What to do with servers of tools.
#[derive(Debug, Subcommand)]
pub enum ToolsCommand {
    /// List the tools of all declared servers, and which of them agents can use.
    #[command(after_help = "Example:
  agentrunner tools list --output json | jq -r '.[].tools[] | select(.state == \"changed\").name'")]
    List,
    /// Show a server, or one of its tools, in full: command line, descriptions, schemas.
    #[command(after_help = "Examples:
  agentrunner tools show files
  agentrunner tools show files.read_file")]
    Show(ShowArgs),
    /// Let agents use tools that are new or have changed.
    #[command(
        after_help = "What a server says of a tool is what your agents' models are told. Read it first: `agentrunner tools show`.

Examples:
  agentrunner tools approve files read_file
  agentrunner tools approve files"
    )]
    Approve(ApproveArgs),
    /// Start a server for a moment, list its tools, and perhaps call one. Nothing of it is remembered.
    #[command(after_help = "Exit codes:
  0  it works
  1  it does not, or the call failed

Examples:
  agentrunner tools test files
  agentrunner tools test files read_file '{\"path\": \"/srv/share/a.txt\"}'")]
    Test(TestArgs),
    /// Get a token for a server that wants one: prints the address at which you allow it.
    #[command(
        after_help = "The token is kept in the data folder, readable by its owner alone, and sent to this server alone.

Example:
  agentrunner tools login search"
    )]
    Login(LoginArgs),
}

/// What to show.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// A server, or `server.tool`.
    pub name: String,
}

/// What to approve.
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// The server.
    pub server: String,
    /// One of its tools; all of them when absent.
    pub tool: Option<String>,
}

/// What to try.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// The server.
    pub server: String,
    /// A tool to call. This is a real call, with all that it does.
    pub tool: Option<String>,
    /// Its arguments, as a JSON object.
    #[arg(requires = "tool", default_value = "{}")]
    pub arguments: String,
}

/// Which server.
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// The server.
    pub server: String,
}

/// Does it.
pub async fn run(context: &Context, command: ToolsCommand) -> CommandResult {
    match command {
        ToolsCommand::Test(args) => return test(context, args).await,
        ToolsCommand::Login(args) => return login(context, &args.server).await,
        _ => {}
    }
    let session = Session::open(context, Need::Record).await?;
    let result = match &command {
        ToolsCommand::List => list(context, &session).await,
        ToolsCommand::Show(args) => show(context, &session, &args.name).await,
        ToolsCommand::Approve(args) => approve(context, &session, args).await,
        ToolsCommand::Test(_) | ToolsCommand::Login(_) => Ok(Exit::Done),
    };
    session.close().await;
    result
}

async fn list(context: &Context, session: &Session) -> CommandResult {
    let servers = session.client.tool_servers().await?;
    output::print(context, &servers, |stream| table(stream, &servers))?;
    Ok(Exit::Done)
}

fn table(stream: Stream, servers: &[ToolServerView]) -> String {
    if servers.is_empty() {
        return "no servers: declare one in config/tools.yml".to_owned();
    }
    let mut grid = Grid::new(stream, &["NAME", "STATE", "EFFECT", "APPROVAL", "DESCRIPTION"]);
    for server in servers {
        let about = server.reason.clone().unwrap_or_else(|| server.target.clone());
        let cells = [&server.name, &server.state, "", "", &about];
        grid.row(cells.into_iter().zip([Color::Plain, color(&server.state), Color::Plain, Color::Plain, Color::Plain]));
        for tool in &server.tools {
            let about = tool.reason.as_ref().map_or(&tool.description, |reason| reason);
            grid.row([
                (tool.name.as_str(), Color::Plain),
                (tool.state.as_str(), color(&tool.state)),
                (tool.effect.as_str(), Color::Plain),
                (tool.approval.as_str(), Color::Plain),
                (about.as_str(), Color::Plain),
            ]);
        }
    }
    grid.finish()
}

fn color(state: &str) -> Color {
    match state {
        "usable" | "ready" => Color::Green,
        "new" | "changed" | "missing" => Color::Yellow,
        "refused" | "unavailable" => Color::Red,
        _ => Color::Plain,
    }
}

async fn show(context: &Context, session: &Session, name: &str) -> CommandResult {
    let servers = session.client.tool_servers().await?;
    let (server_name, tool_name) = name.split_once('.').map_or((name, None), |(server, _)| (server, Some(name)));
    let server = servers.into_iter().find(|server| server.name == server_name);
    let server = server.ok_or_else(|| unknown(format!("there is no server {server_name}")))?;
    let Some(tool_name) = tool_name else {
        output::print(context, &server, |stream| server_page(stream, &server))?;
        return Ok(Exit::Done);
    };
    let tool = server.tools.into_iter().find(|tool| tool.name == tool_name);
    let tool = tool.ok_or_else(|| unknown(format!("there is no tool {tool_name}")))?;
    output::print(context, &tool, |stream| tool_page(stream, &tool))?;
    Ok(Exit::Done)
}

fn unknown(message: String) -> CommandError {
    CommandError::failed(message).hint("`agentrunner tools list` lists the declared servers and their tools")
}

fn server_page(stream: Stream, server: &ToolServerView) -> String {
    let mut text = format!("{}  {}\n", stream.paint(Paint::Bold, &stream.text(&server.name)), server.state);
    // Untruncated: this is what runs.
    let _ = writeln!(text, "  {}  {}", server.transport, stream.text(&server.target));
    if let Some(protocol) = &server.protocol {
        let _ = writeln!(text, "  protocol  {}", stream.text(protocol));
    }
    if let Some(reason) = &server.reason {
        let _ = writeln!(text, "  {}", stream.text(reason));
    }
    for tool in &server.tools {
        let _ = write!(text, "\n{}", tool_page(stream, tool));
    }
    text
}

fn tool_page(stream: Stream, tool: &ToolView) -> String {
    let mut text = format!("{}  {}\n", stream.paint(Paint::Bold, &stream.text(&tool.name)), tool.state);
    if let Some(reason) = &tool.reason {
        let _ = writeln!(text, "  {}", stream.text(reason));
    }
    let claims = if tool.claims_read_only { "; its server claims that it changes nothing" } else { "" };
    let _ = writeln!(text, "  effect {}, approval {}{claims}", tool.effect, tool.approval);
    if let Some(accepted) = &tool.accepted_description {
        let _ = writeln!(text, "  accepted:\n{}", indented(stream, accepted));
        let _ = writeln!(text, "  now:");
    }
    let _ = writeln!(text, "{}", indented(stream, &tool.description));
    let schema = serde_json::to_string_pretty(&tool.parameters).unwrap_or_default();
    let _ = writeln!(text, "  arguments:\n{}", indented(stream, &schema));
    text
}

fn indented(stream: Stream, text: &str) -> String {
    text.lines().map(|line| format!("    {}", stream.text(line))).collect::<Vec<_>>().join("\n")
}

async fn approve(context: &Context, session: &Session, args: &ApproveArgs) -> CommandResult {
    // Both forms are natural: `files read_file` and `files.read_file`.
    let (server, tool) = match args.server.split_once('.') {
        Some((server, tool)) if args.tool.is_none() => (server, Some(tool)),
        _ => (args.server.as_str(), args.tool.as_deref()),
    };
    let server = session.client.approve_tools(server, tool).await?;
    output::print(context, &server, |stream| {
        let usable = server.tools.iter().filter(|tool| tool.state == "usable").count();
        format!("{}: {usable} of {} tools can be used", stream.text(&server.name), server.tools.len())
    })?;
    Ok(Exit::Done)
}

/// The one server of the file, outside of any platform.
async fn one(context: &Context, server: &str, start: bool) -> Result<std::sync::Arc<McpTools>, CommandError> {
    let settings = load(context)?;
    let mut file = settings.process.tools().map_err(|error| CommandError::usage(chain(&error)))?;
    file.servers.retain(|name, _| name == server);
    if file.servers.is_empty() {
        let path = settings.process.agentrunner_tools.display().to_string();
        return Err(CommandError::usage(format!("{path} declares no server {server}")));
    }
    let tools = connect::tools::trial(file, &context.data, settings.ports(), start).await;
    tools.map_err(|error| CommandError::failed(chain(&error)))
}

async fn test(context: &Context, args: TestArgs) -> CommandResult {
    use ::tools::servers::ToolServers as _;

    let arguments: Value = serde_json::from_str(&args.arguments)
        .map_err(|error| CommandError::usage(format!("the arguments are no JSON: {error}")))?;
    let tools = one(context, &args.server, true).await?;
    let status = tools.list().await.ok().and_then(|listed| listed.into_iter().next());
    let called = match &args.tool {
        Some(tool) => Some(tools.try_call(&format!("{}.{tool}", args.server), arguments).await),
        None => None,
    };
    tools.shutdown().await;
    let status = status.ok_or_else(|| CommandError::failed("the server is gone"))?;
    if let Some(reason) = &status.reason {
        return Err(CommandError::failed(format!("{}: {reason}", args.server)));
    }
    match called {
        Some(Ok(value)) => output::print(context, &value, |stream| match &value {
            Value::String(text) => stream.text(text).into_owned(),
            other => output::json(other, stream).unwrap_or_default(),
        })?,
        Some(Err(error)) => return Err(CommandError::failed(format!("{}: {}", error.code, error.message))),
        None => output::print(context, &status, |stream| {
            let protocol = status.protocol.clone().unwrap_or_default();
            let names: Vec<String> = status.tools.iter().map(|tool| format!("  {}", stream.text(&tool.name))).collect();
            format!("{} speaks revision {protocol} and has {} tools\n{}", status.name, names.len(), names.join("\n"))
        })?,
    }
    Ok(Exit::Done)
}

async fn login(context: &Context, server: &str) -> CommandResult {
    let failed = |error: LoginError| CommandError::failed(chain(&error));
    let tools = one(context, server, false).await?;
    let Some(login) = tools.login(server).await.map_err(failed)? else {
        output::line(&format!("{server} wants no new token"))?;
        return Ok(Exit::Done);
    };
    let stdout = context.terminal.stdout;
    // Printed, never opened by us: nothing that a server says reaches a shell.
    output::line(&format!("Allow it here, in a browser on this machine:\n\n  {}\n", stdout.text(login.url())))?;
    login.finish().await.map_err(failed)?;
    output::line(&format!("The token for {server} is kept in the data folder."))?;
    Ok(Exit::Done)
}
