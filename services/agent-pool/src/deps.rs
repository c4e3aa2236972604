//! What a pool needs.

use std::sync::Arc;

use blob::Blobs;
use bus::{Events, Requests, WorkQueue};
use common::health::Probe;
use domain::{Clock, Ids, PlatformLimits};
use llm::Models;
use state::State;
use state::agents::Agents;
use tokio_util::sync::CancellationToken;
use tools::Toolkit;
use tools::servers::ToolServers;

/// What a pool needs.
#[derive(Clone)]
pub struct Deps {
    /// The record.
    pub state: Arc<dyn State>,
    /// The agents of the record.
    pub agents: Arc<Agents>,
    /// Hands over ready tasks.
    pub queue: Arc<dyn WorkQueue>,
    /// Tells what happened.
    pub events: Arc<dyn Events>,
    /// Answers what only pools know.
    pub requests: Arc<dyn Requests>,
    /// Keeps the files of tasks.
    pub blobs: Arc<dyn Blobs>,
    /// What the operator allows each namespace.
    pub limits: Arc<PlatformLimits>,
    /// The models.
    pub models: Models,
    /// The tools.
    pub toolkit: Toolkit,
    /// The servers that bring tools of their own.
    pub servers: Arc<dyn ToolServers>,
    /// Cancelled once all tools are known: no task is taken before.
    pub prepared: CancellationToken,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Identity.
    pub ids: Arc<dyn Ids>,
    /// Whether the backends work, for `/health/ready`; the record's is among them.
    pub probes: Vec<Probe>,
}
