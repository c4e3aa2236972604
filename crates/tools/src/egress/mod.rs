//! The one door through which tools reach the outside.
//!
//! A model chooses where its requests go, and a model can be talked into anything: without a guard it reads the
//! operator's metadata service, databases and admin pages. So every destination is checked by form, name, port and
//! *every* address that its name has; the connection then goes to exactly the checked addresses, so that a name that
//! changes its mind between check and connect gains nothing. Redirects are not followed here: whoever wants to
//! follow one brings its target through the same door.

mod address;
mod allow;
mod destination;
mod resolver;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, Response};

pub use address::{Reach, reach};
pub use allow::{HostPort, HostPortError};
pub use destination::{Destination, MAX_URL};
pub use resolver::{Resolver, SystemResolver};

use allow::Allowed;
use resolver::{PINNED, PinnedResolver};

/// What the operator allows.
#[derive(Clone)]
pub struct EgressOptions {
    /// The only hosts and ports on this machine or in private networks that may be called; nothing else opens any.
    pub allow_private: Vec<HostPort>,
    /// The ports that may be called on public hosts.
    pub ports: Vec<u16>,
    /// The platform's own ports, which may not be called on any host.
    pub own_ports: Vec<u16>,
    /// Looks names up.
    pub resolver: Arc<dyn Resolver>,
}

impl Default for EgressOptions {
    fn default() -> Self {
        Self {
            allow_private: Vec::new(),
            ports: vec![80, 443, 8080, 8443],
            own_ports: vec![7272, 8001, 8002, 8003, 8004, 8005, 9098],
            resolver: Arc::new(SystemResolver),
        }
    }
}

/// Why a destination may not be called. Says nothing about what a name resolved to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    /// The URL could be read in more than one way.
    #[error(
        "write it as http://host/path or https://host:port/path, with no user name and no unusual spelling of the host"
    )]
    Form,
    /// The URL is of another scheme.
    #[error("only http and https may be called")]
    Scheme,
    /// The agent's list does not have the host.
    #[error("this agent may not call {host}")]
    Host {
        /// The host.
        host: String,
    },
    /// The port is none that may be called.
    #[error("port {port} may not be called")]
    Port {
        /// The port.
        port: u16,
    },
    /// The name or one of its addresses is not public.
    #[error("{host} is not on the public internet")]
    Address {
        /// The host.
        host: String,
    },
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// It may not be made; nothing was connected to.
    #[error("the destination may not be called: {0}")]
    Blocked(#[from] Blocked),
    /// The name has no address.
    #[error("{host} has no address; check the spelling")]
    Unresolved {
        /// The host.
        host: String,
    },
    /// The HTTP client could not be made.
    #[error("requests cannot be made on this machine: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// The connection failed or broke.
    #[error("no answer: {reason}")]
    Connection {
        /// Why.
        reason: String,
        /// Whether the request may have reached its destination.
        sent: bool,
    },
}

/// A destination that was checked, and the addresses that it was checked with.
#[derive(Debug, Clone)]
pub struct Admitted {
    destination: Destination,
    addresses: Arc<[SocketAddr]>,
}

impl Admitted {
    /// The addresses, every one of them checked.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

/// Checks destinations and sends requests to those that pass.
pub struct Egress {
    options: EgressOptions,
    client: OnceLock<Result<Client, String>>,
}

impl Egress {
    /// Makes the door; the HTTP client is made when the first request needs it.
    pub fn new(options: EgressOptions) -> Self {
        Self { options, client: OnceLock::new() }
    }

    /// Checks a destination against the operator's rules and an agent's list (`host`, `host:port`, `*.domain`; empty
    /// for every public host). A name is looked up once.
    pub async fn admit(&self, destination: &Destination, allow: &[String]) -> Result<Admitted, EgressError> {
        let opened = self.check_name(destination, allow)?;
        let host = || shorten(&destination.host_text());
        let found = match destination.literal() {
            Some(address) => vec![address],
            None => self.options.resolver.resolve(&destination.host_text()).await.unwrap_or_default(),
        };
        if found.is_empty() {
            return Err(EgressError::Unresolved { host: host() });
        }
        let acceptable = found.iter().all(|address| match reach(*address) {
            Reach::Public => true,
            Reach::Private => opened,
            Reach::Forbidden => false,
        });
        if !acceptable {
            return Err(Blocked::Address { host: host() }.into());
        }
        let addresses = found.into_iter().map(|address| SocketAddr::new(address, destination.port)).collect();
        Ok(Admitted { destination: destination.clone(), addresses })
    }

    /// Checks what is known without a look-up, and tells whether the operator opened this private destination.
    fn check_name(&self, destination: &Destination, allow: &[String]) -> Result<bool, Blocked> {
        let port = destination.port;
        let opened = self.options.allow_private.iter().any(|entry| entry.matches(destination));
        let allowed = allow::allowed(allow, destination);
        if allowed == Allowed::No {
            return Err(Blocked::Host { host: shorten(&destination.host_text()) });
        }
        if destination.has_forbidden_name() && !opened {
            return Err(Blocked::Address { host: shorten(&destination.host_text()) });
        }
        let usual = self.options.ports.contains(&port);
        if self.options.own_ports.contains(&port) || !(usual || opened || allowed == Allowed::HostAndPort) {
            return Err(Blocked::Port { port });
        }
        Ok(opened)
    }

    /// Sends a request to a checked destination, with the destination's own `Host` and TLS name. Dropping the future
    /// drops the request.
    pub async fn send(
        &self,
        to: &Admitted,
        method: Method,
        headers: HeaderMap,
        body: Option<Bytes>,
    ) -> Result<Response, EgressError> {
        let client = self.client.get_or_init(new_client).as_ref();
        let client = client.map_err(|reason| EgressError::Unavailable { reason: reason.clone() })?;
        let mut request = client.request(method, to.destination.url.clone()).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        let sent = PINNED.scope(Arc::clone(&to.addresses), request.send()).await;
        sent.map_err(|error| {
            let sent = !error.is_connect() && !error.is_builder();
            EgressError::Connection { reason: root_cause(&error.without_url()), sent }
        })
    }
}

fn new_client() -> Result<Client, String> {
    // Harmless when the process already has one; without one the client cannot be made.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .dns_resolver(PinnedResolver)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .gzip(true)
        .connect_timeout(Duration::from_secs(10))
        // Shorter than the keep-alive of common servers: a request must not meet a connection that is being closed.
        .pool_idle_timeout(Duration::from_secs(4))
        .user_agent(concat!("AgentRunner/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| root_cause(&error))
}

/// The innermost reason of an error, in few words and without the URL.
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string().chars().take(200).collect()
}

fn shorten(host: &str) -> String {
    host.chars().take(100).collect()
}
