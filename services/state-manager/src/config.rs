//! The settings of the state manager.

use std::net::SocketAddr;
use std::time::Duration;

use common::config::Validate;
use domain::HumanDuration;
use serde::{Deserialize, Serialize};
use state::Retention;

/// The settings; the defaults work on a laptop with nothing installed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the REST API listens; port 0 takes a free one.
    pub state_manager_address: SocketAddr,
    /// Host names, beside `localhost` and addresses, by which the service may be called. When there are any, no other name
    /// is answered, so that a web page cannot reach a port that is published on a person's machine.
    pub http_allowed_hosts: Vec<String>,
    /// Origins, such as `https://console.example`, whose pages may change things.
    pub http_allowed_origins: Vec<String>,
    /// How long ended tasks are kept with their journals; at least a minute.
    pub task_retention: HumanDuration,
    /// How long the idempotency keys of deleted tasks are kept; at least a minute.
    pub idempotency_retention: HumanDuration,
    /// How often what is too old is looked for; 100ms to 1d.
    pub state_manager_purge_interval: HumanDuration,
    /// How many rows are deleted at once; 1 to 100000. Writers wait meanwhile.
    pub state_manager_purge_rows: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_manager_address: ([127, 0, 0, 1], 8001).into(),
            http_allowed_hosts: Vec::new(),
            http_allowed_origins: Vec::new(),
            task_retention: HumanDuration(Duration::from_hours(30 * 24)),
            idempotency_retention: HumanDuration(Duration::from_hours(7 * 24)),
            state_manager_purge_interval: HumanDuration::from_secs(60),
            state_manager_purge_rows: 500,
        }
    }
}

impl Config {
    pub(crate) fn retention(&self) -> Retention {
        Retention { ended_tasks: self.task_retention.0, idempotency_keys: self.idempotency_retention.0 }
    }
}

impl Validate for Config {
    fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> =
            [("TASK_RETENTION", self.task_retention), ("IDEMPOTENCY_RETENTION", self.idempotency_retention)]
                .into_iter()
                .filter(|(_, kept)| kept.0 < Duration::from_mins(1))
                .map(|(name, kept)| format!("{name} must be at least 1m, not {kept}"))
                .collect();
        let interval = self.state_manager_purge_interval;
        if !(Duration::from_millis(100)..=Duration::from_hours(24)).contains(&interval.0) {
            problems.push(format!("STATE_MANAGER_PURGE_INTERVAL must be from 100ms to 1d, not {interval}"));
        }
        let rows = self.state_manager_purge_rows;
        if !(1..=100_000).contains(&rows) {
            problems.push(format!("STATE_MANAGER_PURGE_ROWS must be from 1 to 100000, not {rows}"));
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
            task_retention: never,
            idempotency_retention: never,
            state_manager_purge_interval: never,
            state_manager_purge_rows: 0,
            ..Config::default()
        };
        assert_eq!(config.problems().len(), 4);
    }
}
