//! The servers that bring tools of their own, from the operator's file.

use std::path::Path;
use std::sync::Arc;

use ::tools::egress::EgressOptions;
use ::tools::servers::{MemoryPins, Pins, PinsError, ToolPins};
use async_trait::async_trait;
use domain::{Clock, Namespace};
use state::{PutCondition, State, StateError};
use tools_mcp::{Launcher, Options};

pub use tools_mcp::supervisor::run_if_asked;
pub use tools_mcp::{LoginError, McpTools, ToolsFile, ToolsFileError};

/// A scope that only the platform writes to.
const SCOPE: &str = "platform";
/// Tokens of tool servers, in the data folder.
const TOKENS: &str = "mcp-tokens.json";

/// Reads the operator's file. One that nobody named need not be there.
pub fn load(path: &Path, named: bool) -> Result<ToolsFile, ToolsFileError> {
    if !named && !path.exists() {
        return Ok(ToolsFile::default());
    }
    ToolsFile::load(path)
}

/// Servers outside of a platform, to try them out: nothing of what they say is remembered. They are started now, or when
/// they are first asked.
pub async fn trial(
    file: ToolsFile,
    data_dir: &Path,
    own_ports: Vec<u16>,
    start: bool,
) -> Result<Arc<McpTools>, PinsError> {
    let mut egress = EgressOptions::default();
    egress.own_ports.extend(own_ports);
    let options = options(data_dir, Arc::new(MemoryPins::default()), egress);
    if start { McpTools::start(file, &options).await } else { McpTools::declare(file, &options).await }
}

/// Starts the servers of a platform.
pub(crate) async fn start(
    file: ToolsFile,
    data_dir: &Path,
    state: &Arc<dyn State>,
    clock: &Arc<dyn Clock>,
    egress: &EgressOptions,
) -> Result<Arc<McpTools>, PinsError> {
    let pins = StatePins { state: Arc::clone(state), clock: Arc::clone(clock) };
    McpTools::start(file, &options(data_dir, Arc::new(pins), egress.clone())).await
}

fn options(data_dir: &Path, pins: Arc<dyn ToolPins>, egress: EgressOptions) -> Options {
    Options { pins, launcher: Launcher::own(), egress, tokens: data_dir.join(TOKENS) }
}

/// Keeps in the record what was accepted of servers: one value a server, for all namespaces.
struct StatePins {
    state: Arc<dyn State>,
    clock: Arc<dyn Clock>,
}

fn key(server: &str) -> String {
    format!("tool-pins.{server}")
}

fn lost(error: &StateError) -> PinsError {
    PinsError(error.to_string())
}

#[async_trait]
impl ToolPins for StatePins {
    async fn get(&self, server: &str) -> Result<Option<Pins>, PinsError> {
        let found = self.state.value(&Namespace::default(), SCOPE, &key(server), self.clock.now()).await;
        let found = found.map_err(|error| lost(&error))?;
        let decoded = found.map(|value| serde_json::from_value(value.value)).transpose();
        decoded.map_err(|error| PinsError(format!("what was accepted of {server} is not readable: {error}")))
    }

    async fn put(&self, server: &str, pins: &Pins) -> Result<(), PinsError> {
        let value = serde_json::to_value(pins).map_err(|error| PinsError(error.to_string()))?;
        let (namespace, key, now) = (Namespace::default(), key(server), self.clock.now());
        let put = self.state.put_value(&namespace, SCOPE, &key, value, None, PutCondition::Always, now);
        put.await.map(drop).map_err(|error| lost(&error))
    }
}
