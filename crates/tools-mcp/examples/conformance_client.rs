//! Our client as the protocol's conformance suite drives it: `conformance_client URL`.
//!
//! The suite names its scenario in `MCP_CONFORMANCE_SCENARIO` and what a client was given beforehand in
//! `MCP_CONFORMANCE_CONTEXT`. Its servers listen on this machine, at ports that are not known before; everything else is
//! as in a platform. The person's browser is played by one request.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tools::ToolSource as _;
use tools::egress::EgressOptions;
use tools::servers::{MemoryPins, ToolServers as _};
use tools_mcp::{Grant, Launcher, McpTools, OAuthSpec, Options, ServerSpec, Setting, ToolsFile, supervisor};

const SERVER: &str = "server";
/// How often a person would allow more.
const MAX_LOGINS: u32 = 3;

#[tokio::main]
async fn main() -> Result<(), String> {
    let url = std::env::args().next_back().filter(|url| url.starts_with("http")).ok_or("no URL is given")?;
    let scenario = std::env::var("MCP_CONFORMANCE_SCENARIO").unwrap_or_default();
    let context = std::env::var("MCP_CONFORMANCE_CONTEXT").unwrap_or_default();
    let context: Value = serde_json::from_str(&context).unwrap_or_default();
    let tokens = std::env::temp_dir().join(format!("conformance-tokens-{}.json", std::process::id()));
    let _ = std::fs::remove_file(&tokens);
    let options = Options {
        pins: Arc::new(MemoryPins::default()),
        launcher: Launcher::new(supervisor::SUPERVISE),
        egress: EgressOptions::default(),
        tokens: tokens.clone(),
    };
    let spec = server(url, &scenario, &context);
    let file = ToolsFile { servers: [(SERVER.to_owned(), spec)].into() };
    let tools = McpTools::declare(file, &options).await.map_err(|error| error.to_string())?;
    let result = run(&tools).await;
    tools.shutdown().await;
    let _ = std::fs::remove_file(&tokens);
    result
}

fn server(url: String, scenario: &str, context: &Value) -> ServerSpec {
    let given = |name: &str| context.get(name).and_then(Value::as_str).map(str::to_owned);
    let oauth = scenario.starts_with("auth/").then(|| OAuthSpec {
        grant: if scenario.contains("client-credentials") {
            Grant::ClientCredentials
        } else {
            Grant::AuthorizationCode
        },
        client_id: given("client_id"),
        client_secret: given("client_secret").map(Setting::Text),
        client_metadata_url: Some("https://conformance-test.local/client-metadata.json".to_owned()),
        ..OAuthSpec::default()
    });
    ServerSpec {
        url: Some(url),
        allow_private: true,
        allow_private_hosts: (1_024..=u16::MAX).map(|port| format!("localhost:{port}")).collect(),
        oauth,
        ..ServerSpec::default()
    }
}

async fn run(tools: &Arc<McpTools>) -> Result<(), String> {
    let mut logins = 0;
    loop {
        let attempt = attempt(tools).await;
        let Err(reason) = attempt else { return Ok(()) };
        eprintln!("refused: {reason}");
        if logins == MAX_LOGINS {
            return Err(reason);
        }
        logins += 1;
        let Some(login) = tools.login(SERVER).await.map_err(|error| error.to_string())? else { return Err(reason) };
        eprintln!("allowing {}", login.url());
        let browser = tokio::spawn(browse(login.url().to_owned()));
        login.finish().await.map_err(|error| error.to_string())?;
        browser.await.map_err(|error| error.to_string())??;
        // A server that failed is left alone for a moment.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
    }
}

/// Lists the tools and calls each once.
async fn attempt(tools: &Arc<McpTools>) -> Result<(), String> {
    tools.refresh(SERVER).await.map_err(|error| error.to_string())?;
    for name in tools.names() {
        let arguments = if name.ends_with("add_numbers") { json!({ "a": 5, "b": 3 }) } else { json!({}) };
        let answer = tools.try_call(&name, arguments).await.map_err(|error| error.to_string())?;
        eprintln!("{name}: {answer}");
    }
    Ok(())
}

/// Does what a browser does when the person has nothing to say.
async fn browse(url: String) -> Result<(), String> {
    let client = reqwest::Client::builder().no_proxy().build().map_err(|error| error.to_string())?;
    client.get(url).send().await.map(drop).map_err(|error| error.to_string())
}
