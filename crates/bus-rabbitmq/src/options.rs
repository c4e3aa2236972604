//! Where the broker is and how it is used.

use std::fmt;
use std::time::Duration;

use bus::BusError;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};

/// Seconds after which a silent connection is asked for a sign of life; it is given up after twice as long.
const HEARTBEAT_SECS: u16 = 10;

/// Where the broker is and how it is used.
#[derive(Clone)]
pub struct RabbitOptions {
    /// The broker's host.
    pub host: String,
    /// The broker's port.
    pub port: u16,
    /// Whether to speak TLS; the certificate must be known to the system.
    pub tls: bool,
    /// The virtual host.
    pub vhost: String,
    /// The user, who must be allowed to configure, write and read.
    pub user: String,
    /// The user's password.
    pub password: String,
    /// What queues and exchanges are called, with a dot and more behind it.
    pub prefix: String,
    /// The name of connections, as the broker's operator sees it.
    pub connection_name: String,
    /// How many tasks one consumer is handed in advance; 1 or more.
    pub prefetch: u16,
    /// How long a confirm may take before an announcement fails.
    pub confirm_timeout: Duration,
    /// How long tasks that were handed over stay here while nobody waits for them; then others get them.
    pub give_back_after: Duration,
    /// How often a hint is delivered before it becomes a dead letter.
    pub delivery_limit: u32,
    /// How long a hint lives in a queue. Must be longer than the pause between two announcements of the same task, and
    /// bounds how many hints of one task pile up while nobody takes any.
    pub hint_ttl: Duration,
    /// How many hints a queue keeps; the oldest make room.
    pub queue_limit: u32,
    /// How many dead letters are kept, for whoever looks into a problem; the oldest make room.
    pub dead_letter_limit: u32,
    /// How long dead letters are kept.
    pub dead_letter_ttl: Duration,
}

impl Default for RabbitOptions {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 5672,
            tls: false,
            vhost: "/".to_owned(),
            user: "guest".to_owned(),
            password: String::new(),
            prefix: "tasks".to_owned(),
            connection_name: "agentrunner".to_owned(),
            prefetch: 16,
            confirm_timeout: Duration::from_secs(5),
            give_back_after: Duration::from_millis(500),
            delivery_limit: 20,
            hint_ttl: Duration::from_secs(300),
            queue_limit: 1_000_000,
            dead_letter_limit: 10_000,
            dead_letter_ttl: Duration::from_secs(86_400),
        }
    }
}

impl RabbitOptions {
    /// Reads `amqp://user:password@host:port/vhost`, or `amqps://…`; everything else is as by default.
    pub fn from_url(url: &str) -> Result<Self, BusError> {
        let uri: AMQPUri = url.parse().map_err(|_| BusError::Unavailable("not a URL of AMQP".to_owned()))?;
        Ok(Self {
            host: uri.authority.host,
            port: uri.authority.port,
            tls: uri.scheme == AMQPScheme::AMQPS,
            vhost: uri.vhost,
            user: uri.authority.userinfo.username,
            password: uri.authority.userinfo.password,
            ..Self::default()
        })
    }

    pub(crate) fn uri(&self) -> AMQPUri {
        AMQPUri {
            scheme: if self.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo { username: self.user.clone(), password: self.password.clone() },
                host: self.host.clone(),
                port: self.port,
            },
            vhost: self.vhost.clone(),
            query: AMQPQueryString { heartbeat: Some(HEARTBEAT_SECS), ..AMQPQueryString::default() },
        }
    }
}

impl fmt::Debug for RabbitOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitOptions")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("vhost", &self.vhost)
            .field("user", &self.user)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_broker_and_user_and_no_password_is_printed() {
        let options = RabbitOptions::from_url("amqps://us%40er:p%2Fw@broker:5671/a%20host").unwrap();
        assert_eq!((options.host.as_str(), options.port, options.tls), ("broker", 5671, true));
        assert_eq!((options.user.as_str(), options.password.as_str()), ("us@er", "p/w"));
        assert_eq!(options.vhost, "a host");
        assert!(!format!("{options:?}").contains("p/w"));
        assert!(RabbitOptions::from_url("nonsense").is_err());
    }
}
