//! The settings of the config service.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use common::config::Validate;
use domain::HumanDuration;
use serde::{Deserialize, Serialize};

/// The settings; the defaults work on a laptop with nothing installed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the REST API listens; port 0 takes a free one.
    pub config_service_address: SocketAddr,
    /// Host names, beside `localhost` and addresses, by which the service may be called. When there are any, no other name
    /// is answered, so that a web page cannot reach a port that is published on a person's machine.
    pub http_allowed_hosts: Vec<String>,
    /// Origins, such as `https://console.example`, whose pages may change things.
    pub http_allowed_origins: Vec<String>,
    /// The folder with the agents' files.
    pub agent_config_dir: PathBuf,
    /// How often the folder is looked at in case the system did not tell of a change; 100ms to 1m.
    pub config_service_poll_interval: HumanDuration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            config_service_address: ([127, 0, 0, 1], 8002).into(),
            http_allowed_hosts: Vec::new(),
            http_allowed_origins: Vec::new(),
            agent_config_dir: PathBuf::from("config/agents"),
            config_service_poll_interval: HumanDuration::from_secs(1),
        }
    }
}

impl Validate for Config {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let poll = self.config_service_poll_interval;
        if !(Duration::from_millis(100)..=Duration::from_mins(1)).contains(&poll.0) {
            problems.push(format!("CONFIG_SERVICE_POLL_INTERVAL must be from 100ms to 1m, not {poll}"));
        }
        if self.agent_config_dir.as_os_str().is_empty() {
            problems.push("AGENT_CONFIG_DIR must not be empty".to_owned());
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
        let config = Config {
            agent_config_dir: PathBuf::new(),
            config_service_poll_interval: HumanDuration::from_secs(0),
            ..Config::default()
        };
        assert_eq!(config.problems().len(), 2);
    }
}
