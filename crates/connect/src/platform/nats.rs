//! Events and requests between processes, over NATS.

use std::sync::Arc;

use bus::{Events, Requests};
use bus_nats::{NatsBus, NatsError, NatsOptions, Password};
use common::config::{Secret, Validate};
use common::health::Probe;
use serde::{Deserialize, Serialize};

/// How NATS is reached.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NatsSettings {
    /// The servers, separated by commas: `nats://nats:4222`. Without a user name or password in it.
    pub nats_url: String,
    /// The user; empty: none.
    pub nats_user: String,
    /// The user's password.
    pub nats_password: Secret,
    /// What every subject begins with, so that several platforms can share servers.
    pub nats_prefix: String,
}

impl Default for NatsSettings {
    fn default() -> Self {
        Self {
            nats_url: "nats://127.0.0.1:4222".to_owned(),
            nats_user: String::new(),
            nats_password: Secret::default(),
            nats_prefix: "agentrunner".to_owned(),
        }
    }
}

impl Validate for NatsSettings {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let servers = self.servers();
        if servers.is_empty() {
            problems.push("NATS_URL must name a server, such as nats://nats:4222".to_owned());
        }
        for (place, server) in servers.iter().enumerate() {
            if server.contains('@') {
                problems.push(format!(
                    "NATS_URL: entry {} holds a user name or password: put them into NATS_USER and NATS_PASSWORD",
                    place + 1
                ));
            } else if !server.starts_with("nats://") && !server.starts_with("tls://") {
                problems.push(format!("NATS_URL: {server:?} must begin with nats:// or tls://"));
            }
        }
        if self.nats_user.is_empty() != self.nats_password.is_empty() {
            problems.push("NATS_USER and NATS_PASSWORD belong together: set both or none".to_owned());
        }
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        if !(1..=32).contains(&self.nats_prefix.len()) || !self.nats_prefix.bytes().all(plain) {
            problems.push("NATS_PREFIX must be 1 to 32 lower-case letters, digits, dashes and underscores".to_owned());
        }
        problems
    }
}

impl NatsSettings {
    fn servers(&self) -> Vec<&str> {
        self.nats_url.split(',').map(str::trim).filter(|url| !url.is_empty()).collect()
    }
}

/// What NATS carries.
#[derive(Clone)]
pub struct Messages {
    /// Tells what happened.
    pub events: Arc<dyn Events>,
    /// Asks other services.
    pub requests: Arc<dyn Requests>,
    /// Whether the server is reached.
    pub probe: Probe,
}

/// Speaks with NATS. Returns at once; the connection is made, and made again, in the background. `service` is what the
/// server shows for it.
pub async fn messages(settings: &NatsSettings, service: &str) -> Result<Messages, NatsError> {
    let known = !settings.nats_user.is_empty();
    let options = NatsOptions {
        servers: settings.servers().into_iter().map(str::to_owned).collect(),
        user: known.then(|| settings.nats_user.clone()),
        password: known.then(|| Password::from(settings.nats_password.expose().to_owned())),
        name: service.to_owned(),
        prefix: settings.nats_prefix.clone(),
        ..NatsOptions::default()
    };
    let bus = Arc::new(NatsBus::connect(options).await?);
    let asked = Arc::clone(&bus);
    let probe = Probe::new("nats", true, move || {
        let bus = Arc::clone(&asked);
        async move { bus.ready().await }
    });
    Ok(Messages { events: bus.clone(), requests: bus, probe })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(NatsSettings::default().problems(), Vec::<String>::new());
    }

    #[test]
    fn a_password_in_the_address_is_refused_and_not_repeated() {
        let settings = NatsSettings { nats_url: "nats://u:canary@nats:4222".to_owned(), ..NatsSettings::default() };
        let problems = settings.problems().join("\n");
        assert!(problems.contains("NATS_PASSWORD") && !problems.contains("canary"), "{problems}");
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let settings = NatsSettings {
            nats_url: "http://nats".to_owned(),
            nats_user: "me".to_owned(),
            nats_prefix: "a.b".to_owned(),
            ..NatsSettings::default()
        };
        assert_eq!(settings.problems().len(), 3);
    }
}
