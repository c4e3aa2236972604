//! Where Redis is and how it is used.

use std::fmt;
use std::time::Duration;

use cache::CacheError;
use deadpool_redis::redis::IntoConnectionInfo as _;
use deadpool_redis::{ConnectionAddr, ConnectionInfo, RedisConnectionInfo};

/// Where Redis is and how it is used.
#[derive(Clone)]
pub struct RedisOptions {
    /// The server's host.
    pub host: String,
    /// The server's port.
    pub port: u16,
    /// Whether to speak TLS; the certificate must be known to the system.
    pub tls: bool,
    /// The user; none is the default user.
    pub user: Option<String>,
    /// The user's password; none without one.
    pub password: Option<String>,
    /// The number of the database.
    pub database: i64,
    /// What all keys begin with.
    pub prefix: String,
    /// How many connections there are at most.
    pub connections: usize,
    /// How long a question may take, the way to a connection included.
    pub timeout: Duration,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 6379,
            tls: false,
            user: None,
            password: None,
            database: 0,
            prefix: "agentrunner:".to_owned(),
            connections: 8,
            timeout: Duration::from_millis(250),
        }
    }
}

impl RedisOptions {
    /// Reads `redis://user:password@host:port/database`, or `rediss://…`; everything else is as by default.
    pub fn from_url(url: &str) -> Result<Self, CacheError> {
        let unreadable = || CacheError::Unavailable("not a URL of Redis".to_owned());
        let info = ConnectionInfo::from(url.into_connection_info().map_err(|_| unreadable())?);
        let (host, port, tls) = match info.addr {
            ConnectionAddr::Tcp(host, port) => (host, port, false),
            ConnectionAddr::TcpTls { host, port, .. } => (host, port, true),
            ConnectionAddr::Unix(_) => return Err(unreadable()),
        };
        let RedisConnectionInfo { db: database, username: user, password, .. } = info.redis;
        Ok(Self { host, port, tls, user, password, database, ..Self::default() })
    }

    pub(crate) fn connection(&self) -> ConnectionInfo {
        let (host, port) = (self.host.clone(), self.port);
        let addr = if self.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let redis = RedisConnectionInfo {
            db: self.database,
            username: self.user.clone(),
            password: self.password.clone(),
            ..RedisConnectionInfo::default()
        };
        ConnectionInfo { addr, redis }
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
