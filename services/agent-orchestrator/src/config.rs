//! The orchestrator's settings.

use std::net::SocketAddr;
use std::time::Duration;

use common::config::Validate;
use domain::HumanDuration;
use serde::{Deserialize, Serialize};

/// The settings; the defaults work on a laptop with nothing installed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the REST API listens; port 0 takes a free one.
    pub orchestrator_address: SocketAddr,
    /// Host names, beside `localhost` and addresses, by which the service may be called. When there are any, no other name
    /// is answered, so that a web page cannot reach a port that is published on a person's machine.
    pub http_allowed_hosts: Vec<String>,
    /// Origins, such as `https://console.example`, whose pages may change things.
    pub http_allowed_origins: Vec<String>,
    /// How long a lease lives without renewal; must be the same for pools and the reaper.
    pub agent_lease: HumanDuration,
    /// How many leases in a row a task may lose without a step in between before it fails.
    pub agent_max_lease_losses: u32,
    /// How many tasks may be queued before new ones are refused with 429.
    pub orchestrator_max_queued_tasks: u64,
    /// How many event streams may be open at once.
    pub orchestrator_max_streams: u32,
    /// How often an idle event stream says that it lives.
    pub orchestrator_stream_heartbeat: HumanDuration,
    /// How often an open event stream or long poll reads the record in case an event was lost.
    pub orchestrator_stream_poll: HumanDuration,
    /// How often timers and unannounced tasks are looked for.
    pub orchestrator_sweep_interval: HumanDuration,
    /// A queued task that nobody took within this time is announced again.
    pub orchestrator_reannounce: HumanDuration,
    /// How often leases are looked at.
    pub orchestrator_reap_interval: HumanDuration,
    /// How often times to live and deadlines are looked at.
    pub orchestrator_expiry_interval: HumanDuration,
    /// How often what is stored is counted for the metrics.
    pub orchestrator_stats_interval: HumanDuration,
    /// How often blobs that nothing refers to are looked for; 10ms to 7d.
    pub orchestrator_blob_interval: HumanDuration,
    /// How long a blob is kept that nothing refers to; at least 1h, as its file may be about to be recorded.
    pub orchestrator_blob_grace: HumanDuration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            orchestrator_address: ([127, 0, 0, 1], 8003).into(),
            http_allowed_hosts: Vec::new(),
            http_allowed_origins: Vec::new(),
            agent_lease: HumanDuration::from_secs(4),
            agent_max_lease_losses: 3,
            orchestrator_max_queued_tasks: 1_000_000,
            orchestrator_max_streams: 1_000,
            orchestrator_stream_heartbeat: HumanDuration::from_secs(15),
            orchestrator_stream_poll: HumanDuration::from_secs(5),
            orchestrator_sweep_interval: HumanDuration::from_secs(1),
            orchestrator_reannounce: HumanDuration::from_secs(60),
            orchestrator_reap_interval: HumanDuration::from_secs(1),
            orchestrator_expiry_interval: HumanDuration::from_secs(1),
            orchestrator_stats_interval: HumanDuration::from_secs(10),
            orchestrator_blob_interval: HumanDuration::from_secs(3_600),
            orchestrator_blob_grace: HumanDuration::from_secs(24 * 3_600),
        }
    }
}

impl Validate for Config {
    fn problems(&self) -> Vec<String> {
        let shortest = Duration::from_millis(10);
        let longest = Duration::from_hours(1);
        let mut problems: Vec<_> = [
            ("AGENT_LEASE", self.agent_lease),
            ("ORCHESTRATOR_STREAM_HEARTBEAT", self.orchestrator_stream_heartbeat),
            ("ORCHESTRATOR_STREAM_POLL", self.orchestrator_stream_poll),
            ("ORCHESTRATOR_SWEEP_INTERVAL", self.orchestrator_sweep_interval),
            ("ORCHESTRATOR_REANNOUNCE", self.orchestrator_reannounce),
            ("ORCHESTRATOR_REAP_INTERVAL", self.orchestrator_reap_interval),
            ("ORCHESTRATOR_EXPIRY_INTERVAL", self.orchestrator_expiry_interval),
            ("ORCHESTRATOR_STATS_INTERVAL", self.orchestrator_stats_interval),
        ]
        .into_iter()
        .filter(|(_, value)| !(shortest..=longest).contains(&value.0))
        .map(|(name, value)| format!("{name} must be from 10ms to 1h, not {value}"))
        .collect();
        let interval = self.orchestrator_blob_interval;
        if !(shortest..=7 * 24 * longest).contains(&interval.0) {
            problems.push(format!("ORCHESTRATOR_BLOB_INTERVAL must be from 10ms to 7d, not {interval}"));
        }
        let grace = self.orchestrator_blob_grace;
        if !(longest..=366 * 24 * longest).contains(&grace.0) {
            problems.push(format!("ORCHESTRATOR_BLOB_GRACE must be from 1h to 366d, not {grace}"));
        }
        if self.agent_max_lease_losses == 0 {
            problems.push("AGENT_MAX_LEASE_LOSSES must be at least 1".to_owned());
        }
        problems.extend(common::http::name_problems(&self.http_allowed_hosts, &self.http_allowed_origins));
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert!(Config::default().problems().is_empty());
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let never = HumanDuration::from_secs(0);
        let config = Config {
            agent_lease: never,
            orchestrator_sweep_interval: never,
            orchestrator_blob_grace: HumanDuration::from_secs(60),
            ..Config::default()
        };
        assert_eq!(config.problems().len(), 3);
    }
}
