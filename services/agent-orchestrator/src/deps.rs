//! What the orchestrator needs.

use std::sync::Arc;

use agent::Announcer;
use blob::Blobs;
use bus::{Events, WorkQueue};
use common::health::Probe;
use domain::{Clock, Ids, PlatformLimits};
use state::State;
use state::agents::Agents;

/// The ports that the orchestrator works with.
#[derive(Clone)]
pub struct Deps {
    /// The system of record.
    pub state: Arc<dyn State>,
    /// The agents of the record.
    pub agents: Arc<Agents>,
    /// Hands ready tasks to the pools.
    pub queue: Arc<dyn WorkQueue>,
    /// Tells and hears what happens.
    pub events: Arc<dyn Events>,
    /// Keeps the files of tasks.
    pub blobs: Arc<dyn Blobs>,
    /// What the operator allows each namespace.
    pub limits: Arc<PlatformLimits>,
    /// The models of this process, for `/models`.
    pub models: llm::Models,
    /// The servers that bring tools, for `/tools`.
    pub servers: Arc<dyn tools::servers::ToolServers>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Makes ids.
    pub ids: Arc<dyn Ids>,
    /// Whether the backends work, for `/health/ready`; the record's is among them.
    pub probes: Vec<Probe>,
}

impl Deps {
    /// Announces what writes to the record change.
    pub fn announcer(&self) -> Announcer {
        Announcer { queue: Arc::clone(&self.queue), events: Arc::clone(&self.events) }
    }
}
