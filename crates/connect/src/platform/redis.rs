//! What may be forgotten, in Redis: losing it is a cold cache, so no service is unready without it.

use std::sync::Arc;

use cache::{Cache, CacheError};
use cache_redis::{RedisCache, RedisOptions};
use common::config::{Secret, Validate};
use common::health::Probe;
use serde::{Deserialize, Serialize};

/// How Redis is reached.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisSettings {
    /// The server's name or address; empty: there is none, and each process remembers for itself.
    pub redis_host: String,
    /// Its port.
    pub redis_port: u16,
    /// The user; empty: the default one.
    pub redis_user: String,
    /// The user's password.
    pub redis_password: Secret,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            redis_host: String::new(),
            redis_port: 6379,
            redis_user: String::new(),
            redis_password: Secret::default(),
        }
    }
}

impl Validate for RedisSettings {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.redis_port == 0 {
            problems.push("REDIS_PORT must be 1 to 65535".to_owned());
        }
        if !self.redis_user.is_empty() && self.redis_password.is_empty() {
            problems.push("REDIS_USER needs a REDIS_PASSWORD".to_owned());
        }
        problems
    }
}

/// What processes share and may lose.
#[derive(Clone)]
pub struct Forgettable {
    /// Keeps it.
    pub cache: Arc<dyn Cache>,
    /// Whether the server answers.
    pub probe: Probe,
}

/// Keeps in Redis what processes share and may lose; `None` when there is no Redis. Returns at once; connections are made
/// when they are needed.
pub fn cache(settings: &RedisSettings) -> Result<Option<Forgettable>, CacheError> {
    if settings.redis_host.is_empty() {
        return Ok(None);
    }
    let set = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let redis = Arc::new(RedisCache::new(RedisOptions {
        host: settings.redis_host.clone(),
        port: settings.redis_port,
        user: set(&settings.redis_user),
        password: set(settings.redis_password.expose()),
        ..RedisOptions::default()
    })?);
    let asked = Arc::clone(&redis);
    let probe = Probe::new("redis", false, move || {
        let redis = Arc::clone(&asked);
        async move { redis.ready().await.map_err(|error| common::program::chain(&error)) }
    });
    Ok(Some(Forgettable { cache: redis, probe }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_need_no_server() {
        let settings = RedisSettings::default();
        assert_eq!(settings.problems(), Vec::<String>::new());
        assert!(cache(&settings).unwrap().is_none());
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let settings = RedisSettings { redis_port: 0, redis_user: "me".to_owned(), ..RedisSettings::default() };
        assert_eq!(settings.problems().len(), 2);
    }
}
