//! How the database is reached.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;
use state::StateError;

/// What the server must promise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// What is answered survives the crash of the server's machine; a server that is set otherwise is refused.
    #[default]
    Strict,
    /// The server's settings are accepted as they are: a crash may lose what was answered. For tests and throw-away data.
    Relaxed,
}

/// How the database is reached and used.
#[derive(Clone)]
pub struct PostgresOptions {
    pub(crate) connect: PgConnectOptions,
    /// How many connections are kept for the work: three for writes, one for renewals, the rest for reads.
    pub pool_size: u32,
    /// How many more may be opened for reads when all are busy.
    pub max_overflow: u32,
    /// How long a call waits for a connection before it fails with `StateError::Unavailable`.
    pub acquire_timeout: Duration,
    /// How long one statement may run.
    pub statement_timeout: Duration,
    /// How long a statement may wait for a lock.
    pub lock_timeout: Duration,
    /// Bodies longer than this many bytes are compressed.
    pub compression_threshold: usize,
    /// What the server must promise.
    pub durability: Durability,
    /// Statements are prepared once a connection. Behind PgBouncer in transaction mode this needs its version 1.21 with
    /// `max_prepared_statements`; with an older one it must be off.
    pub prepared_statements: bool,
    /// The schema is brought up to date when the store is opened; else the store waits until somebody has done it.
    pub migrate: bool,
}

impl PostgresOptions {
    /// The defaults for a database that a URL names: `postgres://user:password@host:port/database`.
    ///
    /// `StateError::Unavailable` when the URL is malformed; the message does not repeat it, because it has the password.
    pub fn from_url(url: &str) -> Result<Self, StateError> {
        let connect = PgConnectOptions::from_str(url)
            .map_err(|_| StateError::Unavailable("the URL of PostgreSQL is malformed".to_owned()))?;
        Ok(Self::of(connect))
    }

    /// The defaults for a database, in the words of the service's settings.
    pub fn new(host: &str, port: u16, database: &str, user: &str, password: &str) -> Self {
        let connect = PgConnectOptions::new_without_pgpass()
            .host(host)
            .port(port)
            .database(database)
            .username(user)
            .password(password);
        Self::of(connect)
    }

    fn of(connect: PgConnectOptions) -> Self {
        Self {
            // A statement is never logged with its parameters, but slow ones would be with their text: metrics tell more.
            connect: connect.application_name("agentrunner").disable_statement_logging(),
            pool_size: 10,
            max_overflow: 10,
            acquire_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(3),
            compression_threshold: 4_096,
            durability: Durability::Strict,
            prepared_statements: true,
            migrate: true,
        }
    }

    /// The name that the server shows for the connections.
    #[must_use]
    pub fn application_name(mut self, name: &str) -> Self {
        self.connect = self.connect.application_name(name);
        self
    }

    /// Where the database is, for messages: without any secret.
    pub(crate) fn place(&self) -> String {
        let database = self.connect.get_database().unwrap_or("postgres");
        format!("{}:{}/{database}", self.connect.get_host(), self.connect.get_port())
    }
}

impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("place", &self.place())
            .field("pool_size", &self.pool_size)
            .field("max_overflow", &self.max_overflow)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}
