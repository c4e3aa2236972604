//! Rates that several processes keep to together, by way of a cache.
//!
//! The rate of each process stands in front of it: it is what remains when the cache is away.

use std::sync::Arc;
use std::time::Duration;

use cache::{Cache, CacheError, Key, Limit, Tokens};

use super::settings::NodeLimits;

const REQUESTS: &str = "llm-requests";
const TOKENS: &str = "llm-tokens";

/// The rates of all nodes, over all processes.
#[derive(Clone)]
pub(super) struct SharedRates(pub(super) Arc<dyn Cache>);

impl std::fmt::Debug for SharedRates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedRates")
    }
}

impl SharedRates {
    /// Takes one request of about so many tokens; `Some` says how long to wait, and then nothing was taken.
    ///
    /// A cache that is away limits nothing: the windows of each process still do.
    pub(super) async fn take(&self, node: &str, limits: NodeLimits, tokens: u64) -> Option<Duration> {
        let requests = limits.requests_per_minute.map(|most| Limit::per_minute(most.into()));
        if let Some(limit) = requests
            && let Some(wait) = known(self.0.take_tokens(&key(REQUESTS, node)?, limit, 1).await)
        {
            return Some(wait);
        }
        let limit = Limit::per_minute(limits.tokens_per_minute?);
        let wait = known(self.0.take_tokens(&key(TOKENS, node)?, limit, tokens).await)?;
        if let Some(limit) = requests {
            let _ = self.0.settle_tokens(&key(REQUESTS, node)?, limit, 1, 0).await;
        }
        Some(wait)
    }

    /// Corrects how many tokens a request took.
    pub(super) async fn settle(&self, node: &str, per_minute: u64, taken: u64, used: u64) {
        if let Some(key) = key(TOKENS, node) {
            // Only makes the window a little wrong, and for a minute at most.
            let _ = self.0.settle_tokens(&key, Limit::per_minute(per_minute), taken, used).await;
        }
    }
}

fn key(area: &'static str, node: &str) -> Option<Key> {
    Key::shared(area, node).ok()
}

fn known(tokens: Result<Tokens, CacheError>) -> Option<Duration> {
    match tokens {
        Ok(Tokens::Wait(wait)) => Some(wait),
        Ok(Tokens::Granted) => None,
        Err(error) => {
            tracing::debug!(%error, "rates are those of this process alone");
            None
        }
    }
}
