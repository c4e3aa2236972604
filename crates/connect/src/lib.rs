//! Settings to ports: the only crate that names adapters.

mod embedded;
mod limits;
pub mod models;
pub mod tools;

use std::sync::Arc;

use ::tools::Toolkit;
use ::tools::servers::ToolServers;
use blob::Blobs;
use bus::{Events, Requests, WorkQueue};
use domain::{Clock, Ids, PlatformLimits};
use llm::Models;
use state::State;
use state::agents::Agents;

pub use embedded::{ConnectError, EmbeddedSettings, embedded};
pub use limits::{LIMITS_FILE, LimitsError, read_limits};

/// Everything that a service may need, made once a process and handed down.
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
}
