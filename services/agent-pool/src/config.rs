//! The settings of a pool.

use std::net::SocketAddr;
use std::time::Duration;

use common::config::Validate;
use domain::{ExecutionMode, HumanDuration};
use serde::{Deserialize, Serialize};

/// The settings of a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where health, metrics and statistics are served.
    pub agent_pool_address: SocketAddr,
    /// Host names, beside `localhost` and addresses, by which the service may be called. When there are any, no other name
    /// is answered, so that a web page cannot reach a port that is published on a person's machine.
    pub http_allowed_hosts: Vec<String>,
    /// Origins, such as `https://console.example`, whose pages may change things.
    pub http_allowed_origins: Vec<String>,
    /// Which tasks this pool runs: `autonomous`, `collaborative` or `continuous`.
    pub agent_pool_mode: ExecutionMode,
    /// How many tasks run at once in this process; a waiting task takes no place. 1 to 10,000.
    pub agent_pool_capacity: usize,
    /// How long a lease lives without renewal; must be the same for pools and the reaper.
    pub agent_lease: HumanDuration,
    /// How often leases are renewed; at most a third of `agent_lease`.
    pub agent_renew_interval: HumanDuration,
    /// How long runs may go on after a stop was asked for, to reach their next step; shorter than `agent_shutdown_timeout`.
    pub agent_drain_timeout: HumanDuration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            agent_pool_address: ([127, 0, 0, 1], 8011).into(),
            http_allowed_hosts: Vec::new(),
            http_allowed_origins: Vec::new(),
            agent_pool_mode: ExecutionMode::Autonomous,
            agent_pool_capacity: 256,
            agent_lease: HumanDuration::from_secs(4),
            agent_renew_interval: HumanDuration::from_secs(1),
            agent_drain_timeout: HumanDuration::from_secs(10),
        }
    }
}

impl Validate for Config {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(1..=10_000).contains(&self.agent_pool_capacity) {
            problems.push("AGENT_POOL_CAPACITY must be 1 to 10000".to_owned());
        }
        if self.agent_renew_interval.0 < Duration::from_millis(10) {
            problems.push("AGENT_RENEW_INTERVAL must be at least 10ms".to_owned());
        }
        if self.agent_renew_interval.0 * 3 > self.agent_lease.0 {
            problems.push("AGENT_RENEW_INTERVAL must be at most a third of AGENT_LEASE".to_owned());
        }
        problems.extend(common::http::name_problems(&self.http_allowed_hosts, &self.http_allowed_origins));
        problems
    }
}
