//! How the bus is set up.

use std::fmt;
use std::time::Duration;

use async_nats::ServerAddr;

/// A password; it does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Password {
    fn from(password: String) -> Self {
        Self(password)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where NATS is, and the bounds of what goes over it.
#[derive(Clone)]
pub struct NatsOptions {
    /// Addresses of the servers: `nats://host:4222`, or `tls://` for an encrypted connection.
    pub servers: Vec<String>,
    /// The user; none when the addresses name one or the server asks for none.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Password>,
    /// What this process is called in the server's list of connections.
    pub name: String,
    /// What all our subjects and streams begin with: letters, digits, `-` and `_`. Buses of different prefixes on one server
    /// do not hear each other.
    pub prefix: String,
    /// How many requests one service of this process handles at once; one above is refused as overloaded.
    pub concurrent_requests: usize,
    /// How large a request or an answer may be, in bytes.
    pub max_body_bytes: usize,
    /// How many bytes of bodies too large for one message are held or gathered at once, for each of the two.
    pub max_large_bytes: usize,
    /// How many events wait to be published before further ones are dropped.
    pub publish_queue: usize,
    /// How many events wait for one subscriber before it misses some.
    pub subscriber_queue: usize,
    /// How many bytes of events wait for one subscriber before it misses some.
    pub subscriber_queue_bytes: usize,
    /// How the server keeps deltas for late readers.
    pub deltas: DeltaRetention,
    /// Tells the `traceparent` of what is being done now, to be sent with requests.
    pub traceparent: Option<fn() -> Option<String>>,
}

/// How deltas are kept for late readers, in the server's memory.
#[derive(Debug, Clone, Copy)]
pub struct DeltaRetention {
    /// How long.
    pub max_age: Duration,
    /// How many bytes in all; the oldest make room.
    pub max_bytes: u64,
    /// How many of one task; the oldest make room.
    pub max_per_task: u32,
}

impl NatsOptions {
    pub(crate) fn addresses(&self) -> Result<Vec<ServerAddr>, NatsError> {
        let addresses = self.servers.iter().map(|server| server.trim().parse().map_err(NatsError::Server));
        let addresses: Vec<ServerAddr> = addresses.collect::<Result<_, _>>()?;
        if addresses.is_empty() { Err(NatsError::NoServer) } else { Ok(addresses) }
    }

    /// User and password: as given, else those of the first address that names a user.
    pub(crate) fn credentials(&self, addresses: &[ServerAddr]) -> Option<(String, String)> {
        if let Some(user) = &self.user {
            return Some((user.clone(), self.password.as_ref().map_or("", Password::expose).to_owned()));
        }
        let named = addresses.iter().find_map(|address| Some((address.username()?, address.password())))?;
        Some((unescape(named.0), unescape(named.1.unwrap_or_default())))
    }
}

/// Undoes percent-encoding.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'%').then(|| tail.get(..2)).flatten().and_then(|hex| std::str::from_utf8(hex).ok());
        if let Some(byte) = escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            bytes.push(byte);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Default for NatsOptions {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            user: None,
            password: None,
            name: "agentrunner".to_owned(),
            prefix: "agentrunner".to_owned(),
            concurrent_requests: 1024,
            max_body_bytes: 64 << 20,
            max_large_bytes: 256 << 20,
            publish_queue: 8192,
            subscriber_queue: 1024,
            subscriber_queue_bytes: 8 << 20,
            deltas: DeltaRetention { max_age: Duration::from_secs(15 * 60), max_bytes: 64 << 20, max_per_task: 8192 },
            traceparent: None,
        }
    }
}

impl fmt::Debug for NatsOptions {
    /// Leaves the addresses out: they may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsOptions")
            .field("user", &self.user)
            .field("password", &self.password)
            .field("name", &self.name)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Why a bus cannot be set up: the options are wrong.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// An address is malformed.
    #[error("the address of a NATS server is invalid")]
    Server(#[source] std::io::Error),
    /// There is no address.
    #[error("no address of a NATS server is given")]
    NoServer,
    /// The client refuses the options.
    #[error("the client cannot be set up")]
    Connect(#[source] async_nats::ConnectError),
    /// The prefix has other characters.
    #[error("the prefix {0:?} must be letters, digits, `-` and `_`")]
    Prefix(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(server: &str, user: Option<&str>) -> Option<(String, String)> {
        let user = user.map(str::to_owned);
        let password = Some(Password::from("secret".to_owned()));
        let options = NatsOptions { servers: vec![server.to_owned()], user, password, ..NatsOptions::default() };
        options.credentials(&options.addresses().unwrap())
    }

    #[test]
    fn credentials_are_the_given_ones_or_those_of_the_address() {
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(credentials("nats://a:b%40%25c@host:1", None), pair("a", "b@%c"));
        assert_eq!(credentials("nats://a:b@host", Some("me")), pair("me", "secret"));
        assert_eq!(credentials("host:4222", None), None);
    }

    #[test]
    fn nothing_secret_is_printed() {
        let server = "nats://a:hidden@host".to_owned();
        let password = Some(Password::from("hidden".to_owned()));
        let options = NatsOptions { servers: vec![server], password, ..NatsOptions::default() };
        assert!(!format!("{options:?}").contains("hidden"));
    }
}
