//! The servers that bring tools of their own, from the operator's file.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::tools::egress::EgressOptions;
use ::tools::servers::{ApproveError, MemoryPins, Pins, PinsError, ServerStatus, ToolPins, ToolServers};
use ::tools::{Tool, ToolSource};
use async_trait::async_trait;
use common::health::Probe;
use domain::{Clock, Namespace};
use state::{PutCondition, State, StateError};
use tokio_util::sync::CancellationToken;
use tools_mcp::{Launcher, Options};

pub use tools_mcp::supervisor::run_if_asked;
pub use tools_mcp::{LoginError, McpTools, ToolsFile, ToolsFileError};

/// A scope that only the platform writes to.
const SCOPE: &str = "platform";
/// Where the servers that bring tools are declared, when nobody says otherwise.
pub const TOOLS_FILE: &str = "config/tools.yml";
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

/// Starts the servers of a platform in one process.
#[cfg(feature = "embedded")]
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

/// How often the servers are tried again while the record does not say what was accepted of them.
const AGAIN: Duration = Duration::from_secs(1);
/// How soon what was approved in another process counts in this one.
const RELOAD: Duration = Duration::from_secs(5);

/// The servers of a process whose record may not answer yet: what was accepted of them is known only from there, and
/// without that none of them may be used.
pub struct ArrivingTools {
    file: ToolsFile,
    options: Options,
    arrived: OnceLock<Arc<McpTools>>,
    prepared: CancellationToken,
}

impl ArrivingTools {
    pub(crate) fn new(
        file: ToolsFile,
        tokens_dir: &Path,
        state: &Arc<dyn State>,
        clock: &Arc<dyn Clock>,
        egress: EgressOptions,
    ) -> Arc<Self> {
        let pins = StatePins { state: Arc::clone(state), clock: Arc::clone(clock) };
        let options = options(tokens_dir, Arc::new(pins), egress);
        Arc::new(Self { file, options, arrived: OnceLock::new(), prepared: CancellationToken::new() })
    }

    /// Cancelled once the servers are known: no task should be taken before.
    pub fn prepared(&self) -> &CancellationToken {
        &self.prepared
    }

    /// Whether the servers are known.
    pub fn probe(self: &Arc<Self>) -> Probe {
        let tools = Arc::clone(self);
        Probe::new("tools", true, move || {
            let known = tools.arrived.get().is_some();
            async move {
                if known { Ok(()) } else { Err("what was accepted of the tool servers is not known yet".to_owned()) }
            }
        })
    }

    /// Starts the servers as soon as the record answers, and then follows what other processes approve, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&self) {
        let mut told = false;
        let tools = loop {
            match McpTools::start(self.file.clone(), &self.options).await {
                Ok(tools) => break tools,
                Err(error) if told => tracing::debug!(%error, "the tool servers are not known yet"),
                Err(error) => tracing::warn!(%error, "the tool servers are not known yet, trying again"),
            }
            told = true;
            tokio::time::sleep(AGAIN).await;
        };
        let tools = self.arrived.get_or_init(|| tools);
        self.prepared.cancel();
        loop {
            tokio::time::sleep(RELOAD).await;
            if let Err(error) = tools.reload().await {
                tracing::debug!(%error, "what was accepted of the tool servers could not be read again");
            }
        }
    }

    fn arrived(&self) -> Result<&Arc<McpTools>, ApproveError> {
        let reason = || "what was accepted of the tool servers is not known yet".to_owned();
        self.arrived.get().ok_or_else(|| ApproveError::Elsewhere { reason: reason() })
    }
}

impl ToolSource for ArrivingTools {
    fn names(&self) -> Vec<String> {
        self.arrived.get().map(|tools| tools.names()).unwrap_or_default()
    }

    fn find(&self, name: &str) -> Option<Arc<dyn Tool>> {
        self.arrived.get()?.find(name)
    }

    fn generation(&self) -> u64 {
        self.arrived.get().map_or(0, |tools| tools.generation() + 1)
    }
}

#[async_trait]
impl ToolServers for ArrivingTools {
    async fn list(&self) -> Result<Vec<ServerStatus>, ApproveError> {
        self.arrived()?.list().await
    }

    async fn refresh(&self, server: &str) -> Result<ServerStatus, ApproveError> {
        self.arrived()?.refresh(server).await
    }

    async fn approve(&self, server: &str, tool: Option<&str>) -> Result<ServerStatus, ApproveError> {
        self.arrived()?.approve(server, tool).await
    }

    async fn shutdown(&self) {
        if let Some(tools) = self.arrived.get() {
            tools.shutdown().await;
        }
    }
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
