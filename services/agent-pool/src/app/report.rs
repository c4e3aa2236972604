//! What this worker tells of itself.

use domain::{PoolPhase, PoolReport, Timestamp};

use super::Worker;

/// What does not change while the process lives.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) host: String,
    pub(crate) started_at: Timestamp,
    pub(crate) capacity: usize,
}

impl Identity {
    /// The machine's or container's own name.
    pub(crate) fn host() -> String {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name: String = name.trim().chars().filter(|c| !c.is_control()).take(100).collect();
        if name.is_empty() { "localhost".to_owned() } else { name }
    }
}

impl Worker {
    /// This worker at this moment.
    pub(crate) fn report(&self, identity: &Identity, phase: PoolPhase) -> PoolReport {
        let counts = self.runs.counts();
        let now = self.clock.now();
        let mut minute = self.runs.recent();
        let (recent, recent_seconds) = minute.durations(now);
        let agents = minute.agents(now);
        drop(minute);
        PoolReport {
            worker: self.id,
            host: identity.host.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: self.mode,
            phase,
            started_at: identity.started_at,
            capacity: u32::try_from(identity.capacity).unwrap_or(u32::MAX),
            running: u32::try_from(counts.running).unwrap_or(u32::MAX),
            missed: counts.missed,
            succeeded: counts.succeeded,
            failed: counts.failed,
            cancelled: counts.cancelled,
            parked: counts.parked,
            retried: counts.retried,
            given_back: counts.released + counts.dropped,
            recent,
            recent_seconds,
            agents,
        }
    }
}
