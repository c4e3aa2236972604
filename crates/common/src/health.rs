//! Whether a service can do its work: named checks of what it depends on, behind `/health/ready`.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;

/// How long a check's result is good.
const FRESH: Duration = Duration::from_secs(1);
/// How long a check may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The checks of a service. Clones share them.
#[derive(Clone, Default)]
pub struct Health {
    checks: Arc<Mutex<Vec<Arc<Check>>>>,
}

struct Check {
    name: String,
    required: bool,
    run: Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>,
    // Held while the check runs: many callers at once cause one check.
    last: tokio::sync::Mutex<Option<(Instant, CheckReport)>>,
}

/// Asks a backend whether it works; the error says why not, without secrets.
pub type Ask = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// A check that several services of one process share: each adds it to its own [`Health`].
#[derive(Clone)]
pub struct Probe {
    /// The backend's name, such as `nats`.
    pub name: &'static str,
    /// Whether a service cannot do its work without it.
    pub required: bool,
    /// Asks it.
    pub ask: Ask,
}

impl Probe {
    /// Makes a check.
    pub fn new<F, Fut>(name: &'static str, required: bool, ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self { name, required, ask: Arc::new(move || ask().boxed()) }
    }

    /// Asks a record, without which no service can work.
    pub fn record(name: &'static str, state: &Arc<dyn state::State>) -> Self {
        let state = Arc::clone(state);
        Self::new(name, true, move || {
            let state = Arc::clone(&state);
            async move { state.ping().await.map_err(|error| crate::program::chain(&error)) }
        })
    }
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe").field("name", &self.name).field("required", &self.required).finish_non_exhaustive()
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CheckReport {
    /// Whether it works.
    pub status: CheckStatus,
    /// How long the check took.
    pub latency_ms: f64,
    /// Why it does not work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Whether something works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// It works.
    Up,
    /// It does not.
    Down,
}

/// What all checks found.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthReport {
    /// False when a required check is down.
    pub ready: bool,
    /// The checks by name.
    pub checks: BTreeMap<String, CheckReport>,
}

impl Health {
    /// Makes a registry without checks, which is always ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check; without a `required` one that is down the service still counts as ready.
    ///
    /// It runs when somebody asks, at most once a second, and counts as down after two seconds.
    pub fn add<F, Fut>(&self, name: impl Into<String>, required: bool, check: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        let check = Check {
            name: name.into(),
            required,
            run: Box::new(move || check().boxed()),
            last: tokio::sync::Mutex::new(None),
        };
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(check));
    }

    /// Makes a registry of shared checks.
    pub fn of(probes: &[Probe]) -> Self {
        let health = Self::new();
        for probe in probes {
            let ask = Arc::clone(&probe.ask);
            health.add(probe.name, probe.required, move || ask());
        }
        health
    }

    /// Runs the checks whose results are old, all at once, and reports on all of them.
    pub async fn report(&self) -> HealthReport {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let reports = join_all(checks.iter().map(|check| check.report())).await;
        let ready =
            checks.iter().zip(&reports).all(|(check, report)| !check.required || report.status == CheckStatus::Up);
        let checks = checks.iter().map(|check| check.name.clone()).zip(reports).collect();
        HealthReport { ready, checks }
    }
}

impl Check {
    async fn report(&self) -> CheckReport {
        let mut last = self.last.lock().await;
        if let Some((at, report)) = &*last
            && at.elapsed() < FRESH
        {
            return report.clone();
        }
        let start = Instant::now();
        let outcome =
            AssertUnwindSafe(async { tokio::time::timeout(PATIENCE, (self.run)()).await }).catch_unwind().await;
        let error = match outcome {
            Ok(Ok(result)) => result.err(),
            Ok(Err(_)) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
            Err(_) => Some("the check panicked".to_owned()),
        };
        let status = if error.is_none() { CheckStatus::Up } else { CheckStatus::Down };
        let latency_ms = (start.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        let report = CheckReport { status, latency_ms, error };
        *last = Some((Instant::now(), report.clone()));
        report
    }
}
