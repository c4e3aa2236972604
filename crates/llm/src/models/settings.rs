//! What an operator sets for a node: how much it bears, and how long one that fails is left alone.

use std::time::Duration;

/// How a node is treated. The default adds nothing to what its adapter does, which is right for models in this process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeSettings {
    /// What it bears.
    pub limits: NodeLimits,
    /// How often a call is made again after one that failed without being billed, beside once at every other node.
    pub retries: u32,
    /// How long a call waits for a place, a rate or a pause to pass, before its task goes back to the queue.
    pub max_wait: Duration,
    /// When it is left alone; never, when absent.
    pub breaker: Option<BreakerSettings>,
    /// How often it is looked at while it shares work with other nodes.
    pub check_every: Option<Duration>,
}

impl NodeSettings {
    /// The usual treatment of a server.
    pub fn server() -> Self {
        Self {
            limits: NodeLimits::default(),
            retries: 3,
            max_wait: Duration::from_secs(2),
            breaker: Some(BreakerSettings::default()),
            check_every: Some(Duration::from_secs(10)),
        }
    }
}

/// What a node bears, over all of its models; what is absent is not limited. Calls at once are those of this process; the
/// rates are those of all processes that share a cache (see [`Models::share_rates`](crate::Models::share_rates)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeLimits {
    /// Calls at once.
    pub max_concurrent: Option<u32>,
    /// Calls begun in a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens read and written in a minute.
    pub tokens_per_minute: Option<u64>,
}

/// When a model of a node is left alone, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// So many failures in a row; half of the last twenty calls are as many as are needed, too.
    pub failures: u32,
    /// How long, before one call is let through to see; doubled each time that one fails.
    pub cool_down: Duration,
    /// The longest that the doubling leads to.
    pub max_cool_down: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures: 5, cool_down: Duration::from_secs(5), max_cool_down: Duration::from_secs(60) }
    }
}
