//! What a pool needs.

use std::sync::Arc;

use blob::Blobs;
use bus::{Events, WorkQueue};
use domain::{Clock, Ids, PlatformLimits};
use llm::Models;
use state::State;
use state::agents::Agents;
use tools::Toolkit;

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
