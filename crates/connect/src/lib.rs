//! Settings to ports: the only crate that names adapters.

mod embedded;
pub mod models;

use std::sync::Arc;

use blob::Blobs;
use bus::{Events, Requests, WorkQueue};
use domain::{Clock, Ids, PlatformLimits};
use llm::Models;
use state::State;
use state::agents::Agents;
use tools::Toolkit;

pub use embedded::{ConnectError, EmbeddedSettings, embedded};

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
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Identity.
    pub ids: Arc<dyn Ids>,
}
