//! What the state manager needs.

use std::sync::Arc;

use common::health::Probe;
use domain::Clock;
use state::State;

/// The ports that the state manager works with.
#[derive(Clone)]
pub struct Deps {
    /// The system of record.
    pub state: Arc<dyn State>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Whether the backends work, for `/health/ready`; the record's is among them.
    pub probes: Vec<Probe>,
}
