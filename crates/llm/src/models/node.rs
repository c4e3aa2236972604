//! A server of models while it is in use: who is served, what it said last, and who may come next.
//!
//! A node's limits hold for all of its models together; a breaker, a pause and the figures belong to one model of it, as
//! providers limit their models one by one. All of it outlives a change of the settings.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use domain::Usage;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::breaker::{Breaker, BreakerState};
use super::jitter::Jitter;
use super::rate::Bucket;
use super::settings::{BreakerSettings, NodeSettings};
use super::shared::SharedRates;
use super::stats::Stats;
use crate::{ChatModel, LlmError, Price};

/// A node remembers so many models; what is called beyond that is counted together.
const MODELS_PER_NODE: usize = 256;
/// However long a server asks for, its model is tried again after this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);
/// The first pause after a rate limit that names no longer one; doubled each time in a row.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_OWN_PAUSE: Duration = Duration::from_secs(60);

/// What all nodes of a process share.
#[derive(Debug, Default)]
pub(super) struct Hub {
    /// Tells those who wait that a call ended somewhere.
    pub(super) freed: Notify,
    pub(super) jitter: Jitter,
    /// What other processes take of the same rates, once it was said where that is known.
    pub(super) rates: OnceLock<SharedRates>,
}

#[derive(Debug)]
pub(super) struct Node {
    name: String,
    hub: Arc<Hub>,
    load: Mutex<Load>,
    endpoints: Mutex<BTreeMap<String, Arc<Endpoint>>>,
}

#[derive(Debug, Default)]
struct Load {
    outstanding: u32,
    requests: Bucket,
    tokens: Bucket,
    /// Until when all processes together have used up a rate.
    used_up: Option<Instant>,
    /// What the last look at it said, and when it was.
    up: Option<bool>,
    looked: Option<Instant>,
}

/// One model of a node.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// `provider/name`; one of a bounded number.
    name: String,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    breaker: Breaker,
    paused: Option<Instant>,
    /// Rate limits in a row.
    slow_downs: u32,
    outstanding: u32,
    stats: Stats,
}

/// What an endpoint is like just now.
pub(super) struct Look {
    pub(super) breaker: BreakerState,
    pub(super) paused: Option<Duration>,
    pub(super) outstanding: u32,
}

impl Node {
    pub(super) fn new(name: &str, hub: Arc<Hub>) -> Self {
        Self { name: name.to_owned(), hub, load: Mutex::default(), endpoints: Mutex::default() }
    }

    pub(super) fn endpoint(&self, model: &str) -> Arc<Endpoint> {
        let mut endpoints = lock(&self.endpoints);
        if let Some(known) = endpoints.get(model) {
            return Arc::clone(known);
        }
        let model = if endpoints.len() < MODELS_PER_NODE { model } else { "(others)" };
        let made = || Arc::new(Endpoint { name: format!("{}/{model}", self.name), inner: Mutex::default() });
        Arc::clone(endpoints.entry(model.to_owned()).or_insert_with(made))
    }

    /// The endpoint of a model, if it was ever called by its own name.
    pub(super) fn known(&self, model: &str) -> Option<Arc<Endpoint>> {
        lock(&self.endpoints).get(model).cloned()
    }

    /// The names of the models that were looked for so far.
    pub(super) fn called(&self) -> Vec<(String, Arc<Endpoint>)> {
        lock(&self.endpoints).iter().map(|(model, endpoint)| (model.clone(), Arc::clone(endpoint))).collect()
    }

    pub(super) fn outstanding(&self) -> u32 {
        lock(&self.load).outstanding
    }

    pub(super) fn up(&self) -> Option<bool> {
        lock(&self.load).up
    }

    /// Tells whether it is time to look at it again, and notes that somebody does.
    pub(super) fn is_due(&self, every: Duration) -> bool {
        let now = Instant::now();
        let mut load = lock(&self.load);
        let due = load.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= every);
        if due {
            load.looked = Some(now);
        }
        due
    }

    /// Notes what a look at it said. What was left alone may be tried at once when it is there again.
    pub(super) fn seen(&self, up: bool) {
        let was = lock(&self.load).up.replace(up);
        if was.unwrap_or(true) != up {
            tracing::info!(node = %self.name, up, "node changed");
        }
        metrics::gauge!("llm_node_state", "node" => self.name.clone()).set(if up { 1.0 } else { 0.0 });
        if up && was == Some(false) {
            self.hurry();
        }
    }

    /// Lets every model that is left alone be tried with the next call.
    pub(super) fn hurry(&self) {
        let now = Instant::now();
        for (_, endpoint) in self.called() {
            lock(&endpoint.inner).breaker.hurry(now);
        }
        self.hub.freed.notify_waiters();
    }
}

impl Endpoint {
    pub(super) fn look(&self) -> Look {
        let now = Instant::now();
        let inner = lock(&self.inner);
        Look {
            breaker: inner.breaker.shown(now),
            paused: inner.paused.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero()),
            outstanding: inner.outstanding,
        }
    }

    pub(super) fn stats<T>(&self, read: impl FnOnce(&Stats) -> T) -> T {
        read(&lock(&self.inner).stats)
    }
}

/// Where a call can go: one model of one node.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) node: Arc<Node>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) settings: Arc<NodeSettings>,
    pub(super) chat: Arc<dyn ChatModel>,
    /// Its name within its provider.
    pub(super) model: String,
    /// `provider/name`.
    pub(super) name: String,
    pub(super) price: Option<Price>,
}

/// Why a call cannot go there now, and when to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocked {
    /// As many are served as it bears; the time is how long an answer takes.
    Full(Duration),
    /// Its rate is used up.
    Rate(Duration),
    /// It asked us to wait.
    Paused(Duration),
    /// It failed too often.
    Open(Duration),
}

impl Blocked {
    pub(super) fn wait(self) -> Duration {
        match self {
            Self::Full(wait) | Self::Rate(wait) | Self::Paused(wait) | Self::Open(wait) => wait,
        }
    }

    /// The error of a call that does not wait.
    pub(super) fn error(self, model: &str) -> LlmError {
        let model = model.to_owned();
        // Whole milliseconds, rounded up: who comes back a moment early waits once more.
        let retry_after = Some(self.wait() + Duration::from_millis(1));
        match self {
            Self::Full(_) | Self::Rate(_) | Self::Paused(_) => LlmError::Busy { model, retry_after },
            Self::Open(_) => {
                let reason = "it failed again and again and is left alone for a while".to_owned();
                LlmError::Unavailable { model, reason, retry_after }
            }
        }
    }
}

impl Place {
    /// Takes a seat for a call of about so many tokens.
    pub(super) fn enter(&self, tokens: u64) -> Result<Seat<'_>, Blocked> {
        let now = Instant::now();
        let limits = self.settings.limits;
        let mut load = lock(&self.node.load);
        let mut inner = lock(&self.endpoint.inner);
        if let Some(left) =
            inner.paused.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
        {
            return Err(Blocked::Paused(left));
        }
        inner.paused = None;
        if limits.max_concurrent.is_some_and(|most| load.outstanding >= most) {
            let usual = inner.stats.latency().map_or(Duration::from_secs(1), |(half, _)| half);
            return Err(Blocked::Full(usual.clamp(Duration::from_secs(1), Duration::from_secs(30))));
        }
        let requests = limits.requests_per_minute.map(|most| load.requests.wait(1, most.into(), now));
        let enough = limits.tokens_per_minute.map(|most| load.tokens.wait(tokens, most, now));
        let used_up = load.used_up.map(|until| until.saturating_duration_since(now));
        let wait = requests.max(enough).max(used_up).unwrap_or_default();
        if !wait.is_zero() {
            return Err(Blocked::Rate(wait));
        }
        let probe = match self.settings.breaker {
            Some(_) => inner.breaker.admit(now).map_err(Blocked::Open)?,
            None => false,
        };
        if let Some(most) = limits.requests_per_minute {
            load.requests.take(1, most.into(), now);
        }
        if let Some(most) = limits.tokens_per_minute {
            load.tokens.take(tokens, most, now);
        }
        load.outstanding += 1;
        inner.outstanding += 1;
        Ok(Seat { place: self, tokens, probe, begun: now, ended: false })
    }
}

/// A call under way; dropped without an end, it says nothing about the server.
pub(super) struct Seat<'a> {
    pub(super) place: &'a Place,
    tokens: u64,
    probe: bool,
    begun: Instant,
    ended: bool,
}

impl Seat<'_> {
    /// Takes what this call is of the rates that all processes share. `None` when there is not enough left: the seat is
    /// given up, and nobody asks again before there is.
    pub(super) async fn agreed(self) -> Option<Self> {
        let node = &self.place.node;
        let limits = self.place.settings.limits;
        let Some(rates) = node.hub.rates.get() else { return Some(self) };
        let Some(wait) = rates.take(&node.name, limits, self.tokens).await else { return Some(self) };
        let mut load = lock(&node.load);
        load.requests.settle(1, 0);
        load.tokens.settle(self.tokens, 0);
        load.used_up = Some(Instant::now() + wait);
        None
    }

    /// Notes how it ended; `usage` has its cost. `blames` tells whether what is no answer at all counts as the node's
    /// failure: where another node can be asked instead, one that fails fast must not draw all calls.
    pub(super) fn end(mut self, outcome: Result<&Usage, &LlmError>, blames: bool) {
        self.ended = true;
        let now = Instant::now();
        let settings = &self.place.settings;
        if let Some(most) = settings.limits.tokens_per_minute
            && let Ok(usage) = outcome
        {
            let (taken, used) = (self.tokens, usage.total());
            lock(&self.place.node.load).tokens.settle(taken, used);
            if let Some(rates) = self.place.node.hub.rates.get().cloned() {
                let node = self.place.node.name.clone();
                tokio::spawn(async move { rates.settle(&node, most, taken, used).await });
            }
        }
        let mut inner = lock(&self.place.endpoint.inner);
        match outcome {
            Ok(usage) => {
                inner.stats.answered(usage, now.saturating_duration_since(self.begun));
                inner.breaker.succeeded();
                inner.slow_downs = 0;
            }
            Err(error) => {
                inner.stats.failed(error.kind(), now);
                if let Some(breaker) = &settings.breaker {
                    self.note(&mut inner, error, blames, now, breaker);
                }
            }
        }
        let shown = inner.breaker.shown(now);
        drop(inner);
        self.count(outcome, shown);
    }

    fn note(&self, inner: &mut Inner, error: &LlmError, blames: bool, now: Instant, breaker: &BreakerSettings) {
        match error {
            LlmError::RateLimited { retry_after, .. } => {
                let own = SHORTEST_PAUSE.saturating_mul(1 << inner.slow_downs.min(16)).min(LONGEST_OWN_PAUSE);
                inner.slow_downs = inner.slow_downs.saturating_add(1);
                let own = self.place.node.hub.jitter.between(own / 2, own);
                pause(inner, now + retry_after.unwrap_or_default().max(own).min(LONGEST_PAUSE));
                inner.breaker.undecided(self.probe, now);
            }
            LlmError::Unavailable { retry_after, .. } => {
                if let Some(asked) = retry_after {
                    pause(inner, now + (*asked).min(LONGEST_PAUSE));
                }
                inner.breaker.failed(self.probe, now, breaker);
            }
            LlmError::Timeout { .. } => inner.breaker.failed(self.probe, now, breaker),
            LlmError::Invalid { .. } if blames => inner.breaker.failed(self.probe, now, breaker),
            // Who refuses this request is there, and may take the next one.
            LlmError::Busy { .. }
            | LlmError::Invalid { .. }
            | LlmError::Refused { .. }
            | LlmError::ContextTooLong { .. }
            | LlmError::Unknown { .. } => {
                if self.probe {
                    inner.breaker.succeeded();
                }
            }
        }
    }

    fn count(&self, outcome: Result<&Usage, &LlmError>, breaker: BreakerState) {
        let name = &self.place.endpoint.name;
        if self.place.settings.breaker.is_some() {
            let open = if breaker == BreakerState::Closed { 0.0 } else { 1.0 };
            metrics::gauge!("llm_breaker_open", "model" => name.clone()).set(open);
        }
        if let Ok(usage) = outcome
            && !usage.cost.is_zero()
        {
            metrics::gauge!("llm_spend_usd_total", "model" => name.clone()).increment(usage.cost.dollars());
        }
    }
}

/// A pause is never made shorter: a call that began before may bring an older word.
fn pause(inner: &mut Inner, until: Instant) {
    inner.paused = Some(inner.paused.map_or(until, |known| known.max(until)));
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut load = lock(&self.place.node.load);
        load.outstanding = load.outstanding.saturating_sub(1);
        drop(load);
        let mut inner = lock(&self.place.endpoint.inner);
        inner.outstanding = inner.outstanding.saturating_sub(1);
        if !self.ended {
            inner.breaker.undecided(self.probe, Instant::now());
        }
        drop(inner);
        self.place.node.hub.freed.notify_waiters();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
