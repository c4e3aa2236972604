//! The work queue between processes, on RabbitMQ.

use std::sync::Arc;

use bus::WorkQueue;
use bus_rabbitmq::{RabbitOptions, RabbitQueue};
use common::config::{Secret, Validate};
use common::health::Probe;
use serde::{Deserialize, Serialize};

/// How RabbitMQ is reached.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RabbitmqSettings {
    /// The server's name or address.
    pub rabbitmq_host: String,
    /// Its AMQP port.
    pub rabbitmq_port: u16,
    /// The virtual host.
    pub rabbitmq_vhost: String,
    /// The user.
    pub rabbitmq_user: String,
    /// The user's password.
    pub rabbitmq_password: Secret,
    /// How many announcements a pool holds that it has not claimed yet; 1 to 1000.
    pub rabbitmq_prefetch_count: u16,
}

impl Default for RabbitmqSettings {
    fn default() -> Self {
        Self {
            rabbitmq_host: "127.0.0.1".to_owned(),
            rabbitmq_port: 5672,
            rabbitmq_vhost: "/".to_owned(),
            rabbitmq_user: "agentrunner".to_owned(),
            rabbitmq_password: Secret::default(),
            rabbitmq_prefetch_count: 16,
        }
    }
}

impl Validate for RabbitmqSettings {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, value) in [
            ("RABBITMQ_HOST", &self.rabbitmq_host),
            ("RABBITMQ_VHOST", &self.rabbitmq_vhost),
            ("RABBITMQ_USER", &self.rabbitmq_user),
        ] {
            if value.is_empty() {
                problems.push(format!("{name} must not be empty"));
            }
        }
        if self.rabbitmq_port == 0 {
            problems.push("RABBITMQ_PORT must be 1 to 65535".to_owned());
        }
        if !(1..=1_000).contains(&self.rabbitmq_prefetch_count) {
            problems.push("RABBITMQ_PREFETCH_COUNT must be 1 to 1000".to_owned());
        }
        problems
    }
}

/// The work queue on RabbitMQ.
#[derive(Clone)]
pub struct Queue {
    /// Hands ready tasks to pools.
    pub queue: Arc<dyn WorkQueue>,
    /// Whether tasks can be announced and taken.
    pub probe: Probe,
    rabbit: RabbitQueue,
}

impl Queue {
    /// Gives back what was handed over and not taken; within a few seconds.
    pub async fn close(&self) {
        self.rabbit.close().await;
    }
}

/// Speaks with RabbitMQ. Returns at once; connections are made, and made again, in the background. `service` is what the
/// server shows for it, and `required` says whether it cannot do its work without.
///
/// Must be called within a Tokio runtime.
pub fn queue(settings: &RabbitmqSettings, service: &str, required: bool) -> Queue {
    let options = RabbitOptions {
        host: settings.rabbitmq_host.clone(),
        port: settings.rabbitmq_port,
        vhost: settings.rabbitmq_vhost.clone(),
        user: settings.rabbitmq_user.clone(),
        password: settings.rabbitmq_password.expose().to_owned(),
        connection_name: service.to_owned(),
        prefetch: settings.rabbitmq_prefetch_count,
        ..RabbitOptions::default()
    };
    let rabbit = RabbitQueue::start(options);
    let asked = rabbit.clone();
    let probe = Probe::new("rabbitmq", required, move || {
        let rabbit = asked.clone();
        async move { rabbit.ready().map_err(|error| common::program::chain(&error)) }
    });
    Queue { queue: Arc::new(rabbit.clone()), probe, rabbit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(RabbitmqSettings::default().problems(), Vec::<String>::new());
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let settings = RabbitmqSettings {
            rabbitmq_host: String::new(),
            rabbitmq_port: 0,
            rabbitmq_prefetch_count: 0,
            ..RabbitmqSettings::default()
        };
        assert_eq!(settings.problems().len(), 3);
    }
}
