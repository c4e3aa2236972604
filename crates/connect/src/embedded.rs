//! The ports of a platform in one process: everything durable in one folder, everything else in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::tools::egress::{EgressOptions, HostPort, HostPortError};
use ::tools::servers::{PinsError, ToolServers};
use ::tools::{BuiltinOptions, Toolkit, builtin};
use blob::Blobs;
use bus::inproc::InprocOptions;
use bus::{Events, InprocBus, Requests, WorkQueue};
use common::health::Probe;
use domain::{Clock, Ids, PlatformLimits, SystemClock, SystemIds};
use llm::Models;
use state::agents::Agents;
use state::{State, StateError};
use state_sqlite::{SqliteOptions, SqliteState};

use crate::tools::{self, ToolsFile};

/// Everything that the services of one process need, made once and handed down.
#[derive(Clone)]
pub struct Ports {
    /// The record.
    pub state: Arc<dyn State>,
    /// The agents of the record.
    pub agents: Arc<Agents>,
    /// Hands ready tasks to pools.
    pub queue: Arc<dyn WorkQueue>,
    /// Tells what happened.
    pub events: Arc<dyn Events>,
    /// Asks other services.
    pub requests: Arc<dyn Requests>,
    /// Keeps the files of tasks.
    pub blobs: Arc<dyn Blobs>,
    /// What the operator allows each namespace.
    pub limits: Arc<PlatformLimits>,
    /// The models.
    pub models: Models,
    /// The tools.
    pub toolkit: Toolkit,
    /// The servers that bring tools of their own; whoever stops the platform shuts them down.
    pub servers: Arc<dyn ToolServers>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Identity.
    pub ids: Arc<dyn Ids>,
    /// Whether what is outside of the process works.
    pub probes: Vec<Probe>,
}

/// What the ports are made of.
pub struct EmbeddedSettings {
    /// The folder of the record; it belongs to this process while the ports are in use.
    pub data_dir: PathBuf,
    /// Bodies longer than this many bytes are compressed in the record.
    pub compression_threshold: usize,
    /// The hosts and ports in private networks that `http_request` may call, as `AGENT_EGRESS_ALLOW_PRIVATE` names them.
    pub egress_allow_private: String,
    /// The platform's own ports beside the usual ones; no tool may call them.
    pub own_ports: Vec<u16>,
    /// What the operator allows each namespace.
    pub limits: PlatformLimits,
    /// The models.
    pub models: Models,
    /// The servers that bring tools of their own.
    pub tools: ToolsFile,
}

impl EmbeddedSettings {
    /// The defaults, for a data folder.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        let compression_threshold = SqliteOptions::new(&data_dir).compression_threshold;
        Self {
            data_dir,
            compression_threshold,
            egress_allow_private: String::new(),
            own_ports: Vec::new(),
            limits: PlatformLimits::default(),
            models: Models::default(),
            tools: ToolsFile::default(),
        }
    }
}

/// Why the ports could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The record could not be opened: another process has it, or the disk refuses.
    #[error("the record could not be opened")]
    State(#[from] StateError),
    /// The allowed private hosts are not understood.
    #[error("AGENT_EGRESS_ALLOW_PRIVATE {0:?}: each item {1}")]
    Egress(String, HostPortError),
    /// What was accepted of the tool servers is not known.
    #[error("the tool servers could not be started")]
    Tools(#[from] PinsError),
}

/// Opens the record and makes the ports around it.
///
/// Whoever stops the platform closes the record last, with `State::close`.
pub async fn embedded(settings: EmbeddedSettings) -> Result<Ports, ConnectError> {
    let mut egress = EgressOptions {
        allow_private: HostPort::parse_list(&settings.egress_allow_private)
            .map_err(|error| ConnectError::Egress(settings.egress_allow_private.clone(), error))?,
        ..EgressOptions::default()
    };
    egress.own_ports.extend(settings.own_ports);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let state = open(&settings.data_dir, settings.compression_threshold, Arc::clone(&clock)).await?;
    let servers = tools::start(settings.tools, &settings.data_dir, &state, &clock, &egress).await?;
    let mut toolkit = builtin(BuiltinOptions { egress });
    toolkit.add_source(servers.clone());
    let bus = Arc::new(InprocBus::new(InprocOptions::default()));
    Ok(Ports {
        probes: vec![Probe::record("state", &state)],
        agents: Arc::new(Agents::new(Arc::clone(&state), Arc::clone(&clock))),
        state,
        queue: bus.clone(),
        events: bus.clone(),
        requests: bus,
        blobs: Arc::new(blob::Folder::new(settings.data_dir.join("blobs"))),
        limits: Arc::new(settings.limits),
        models: settings.models,
        toolkit,
        servers,
        clock,
        ids: Arc::new(SystemIds),
    })
}

async fn open(dir: &Path, compression_threshold: usize, clock: Arc<dyn Clock>) -> Result<Arc<dyn State>, StateError> {
    let options = SqliteOptions { compression_threshold, ..SqliteOptions::new(dir) };
    // Recovery reads and writes the disk.
    let opened = tokio::task::spawn_blocking(move || SqliteState::open(options, clock)).await;
    let state = opened.map_err(|error| StateError::Unavailable(format!("opening the record failed: {error}")))??;
    Ok(state)
}
