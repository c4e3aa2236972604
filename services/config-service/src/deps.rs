//! What the config service needs.

use std::sync::Arc;

use bus::Events;
use common::health::Probe;
use domain::Clock;
use state::State;
use state::agents::Agents;

/// The ports that the config service works with.
#[derive(Clone)]
pub struct Deps {
    /// The system of record.
    pub state: Arc<dyn State>,
    /// The agents of the record.
    pub agents: Arc<Agents>,
    /// Tells of new versions.
    pub events: Arc<dyn Events>,
    /// The servers whose tools agents may name, as `server.tool`.
    pub servers: Arc<[String]>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Whether the backends work, for `/health/ready`; the record's is among them.
    pub probes: Vec<Probe>,
}
