//! The record in PostgreSQL: only state-manager has its settings, its credentials and its code.

use std::fmt::Write as _;
use std::sync::Arc;

use common::config::{Secret, Validate};
use common::health::Probe;
use domain::Clock;
use serde::{Deserialize, Serialize};
use state::{State, StateError};
use state_postgres::migrate::{self, Report};
use state_postgres::{PostgresOptions, PostgresState};

/// What a commit means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// On disk. A server that is set up to answer earlier is refused.
    #[default]
    Strict,
    /// As the server is set up; a power cut may lose what was answered.
    Relaxed,
}

/// How PostgreSQL is reached.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresSettings {
    /// The server's name or address, or that of a PgBouncer in transaction mode.
    pub postgres_host: String,
    /// Its port.
    pub postgres_port: u16,
    /// The database.
    pub postgres_db: String,
    /// The user.
    pub postgres_user: String,
    /// The user's password.
    pub postgres_password: Secret,
    /// Connections that are kept; 2 to 100.
    pub db_pool_size: u32,
    /// Further connections while all are in use; 0 to 100.
    pub db_max_overflow: u32,
    /// `strict`, or `relaxed` for a server that may lose what it has answered.
    pub durability: Durability,
    /// Whether statements are prepared once a connection; off behind a PgBouncer before 1.21 in transaction mode.
    pub db_prepared_statements: bool,
    /// Whether the schema is brought up to date at the start; off when `state-manager migrate up` is run before.
    pub db_migrate: bool,
    /// Bodies longer than this many bytes are compressed.
    pub state_compression_threshold: usize,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            postgres_host: "127.0.0.1".to_owned(),
            postgres_port: 5432,
            postgres_db: "agentrunner".to_owned(),
            postgres_user: "agentrunner".to_owned(),
            postgres_password: Secret::default(),
            db_pool_size: 10,
            db_max_overflow: 10,
            durability: Durability::Strict,
            db_prepared_statements: true,
            db_migrate: true,
            state_compression_threshold: 4_096,
        }
    }
}

impl Validate for PostgresSettings {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, value) in [
            ("POSTGRES_HOST", &self.postgres_host),
            ("POSTGRES_DB", &self.postgres_db),
            ("POSTGRES_USER", &self.postgres_user),
        ] {
            if value.is_empty() {
                problems.push(format!("{name} must not be empty"));
            }
        }
        if self.postgres_port == 0 {
            problems.push("POSTGRES_PORT must be 1 to 65535".to_owned());
        }
        if !(2..=100).contains(&self.db_pool_size) {
            problems.push("DB_POOL_SIZE must be 2 to 100".to_owned());
        }
        if self.db_max_overflow > 100 {
            problems.push("DB_MAX_OVERFLOW must be 0 to 100".to_owned());
        }
        problems
    }
}

impl PostgresSettings {
    fn options(&self) -> PostgresOptions {
        let mut options = PostgresOptions::new(
            &self.postgres_host,
            self.postgres_port,
            &self.postgres_db,
            &self.postgres_user,
            self.postgres_password.expose(),
        )
        .application_name("state-manager");
        options.pool_size = self.db_pool_size;
        options.max_overflow = self.db_max_overflow;
        options.compression_threshold = self.state_compression_threshold;
        options.prepared_statements = self.db_prepared_statements;
        options.migrate = self.db_migrate;
        options.durability = match self.durability {
            Durability::Strict => state_postgres::Durability::Strict,
            Durability::Relaxed => state_postgres::Durability::Relaxed,
        };
        options
    }
}

/// Opens the record. Returns at once; until the server answers, every call says why it does not.
///
/// Must be called within a Tokio runtime.
pub fn record(settings: &PostgresSettings, clock: Arc<dyn Clock>) -> (Arc<dyn State>, Probe) {
    let state: Arc<dyn State> = PostgresState::open(settings.options(), clock);
    let probe = Probe::record("postgres", &state);
    (state, probe)
}

/// Moves the schema, as `migrate up`, `migrate down` (one step) or `migrate status` say; returns what to tell.
pub async fn migrate(settings: &PostgresSettings, command: &str) -> Result<String, StateError> {
    let options = settings.options();
    let report = match command {
        "migrate up" => migrate::up(&options).await?,
        "migrate down" => migrate::down(&options, 1).await?,
        _ => migrate::status(&options).await?,
    };
    Ok(told(&report))
}

fn told(report: &Report) -> String {
    let mut text = String::new();
    for name in &report.changed {
        let _ = writeln!(text, "changed  {name}");
    }
    for one in &report.migrations {
        let _ = match &one.applied_at {
            Some(at) if one.same => writeln!(text, "applied  {} at {at}", one.name),
            Some(at) => writeln!(text, "applied  {} at {at}, with another text than this version has", one.name),
            None => writeln!(text, "missing  {}", one.name),
        };
    }
    for number in &report.unknown {
        let _ = writeln!(text, "unknown  {number:04}, applied by a newer version");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(PostgresSettings::default().problems(), Vec::<String>::new());
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let settings = PostgresSettings {
            postgres_host: String::new(),
            postgres_port: 0,
            db_pool_size: 0,
            db_max_overflow: 1_000,
            ..PostgresSettings::default()
        };
        assert_eq!(settings.problems().len(), 4);
    }
}
