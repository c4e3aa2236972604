//! What an operator sees of the models of this process.

use std::time::Duration;

use domain::{FailureKind, Usd};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::breaker::BreakerState;
use super::catalogue::{Catalogue, ModelTerms, Target};
use super::node::{Endpoint, Node};

/// A model that can be named in an agent's file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// `provider/name`, or a route.
    pub name: String,
    /// True for the one that `default` stands for.
    pub default: bool,
    /// Where it is and why it was chosen.
    pub note: String,
}

/// A model or a route, and how it does.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelStatus {
    /// `provider/name`, or a route.
    pub name: String,
    /// True for the one that `default` stands for.
    pub default: bool,
    /// Where it is and why it was chosen.
    pub note: String,
    /// What a route asks, in its order; none for a model.
    pub targets: Option<Vec<Target>>,
    /// What is known of it.
    pub terms: ModelTerms,
    /// Whether it can be asked now; for a route, the best of what it asks.
    pub health: NodeHealth,
    /// Calls under way.
    pub outstanding: u32,
    /// What went wrong last.
    pub last_error: Option<LastError>,
    /// How long half of the last answers took at most.
    pub latency_p50: Option<Duration>,
    /// How long 95 of 100 took at most.
    pub latency_p95: Option<Duration>,
    /// Calls since this process started, those that failed included.
    pub calls: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// What it cost.
    pub spend: Usd,
}

/// Whether a model can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeHealth {
    /// Calls go through.
    Up,
    /// One call may try whether it works again.
    Trying,
    /// It asked us to slow down; calls wait.
    Paused,
    /// It failed too often, or did not answer when it was looked at.
    Down,
    /// It is named and cannot be used: its provider has no key, or there is none.
    Unconfigured,
}

impl NodeHealth {
    /// The name as it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Trying => "trying",
            Self::Paused => "paused",
            Self::Down => "down",
            Self::Unconfigured => "unconfigured",
        }
    }
}

/// What went wrong last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastError {
    /// What it was.
    pub kind: FailureKind,
    /// How long ago.
    pub ago: Duration,
}

pub(super) fn of_model(
    catalogue: &Catalogue,
    name: &str,
    note: &str,
    node: &Node,
    endpoint: Option<&Endpoint>,
) -> ModelStatus {
    let mut status = ModelStatus {
        name: name.to_owned(),
        default: catalogue.default.as_deref() == Some(name),
        note: note.to_owned(),
        terms: catalogue.terms_of(name),
        health: if node.up() == Some(false) { NodeHealth::Down } else { NodeHealth::Up },
        ..ModelStatus::nothing()
    };
    let Some(endpoint) = endpoint else { return status };
    let look = endpoint.look();
    match (look.breaker, look.paused) {
        (BreakerState::Open, _) => status.health = NodeHealth::Down,
        (BreakerState::HalfOpen, _) => status.health = NodeHealth::Trying,
        (BreakerState::Closed, Some(_)) => status.health = NodeHealth::Paused,
        (BreakerState::Closed, None) => {}
    }
    status.outstanding = look.outstanding;
    let now = Instant::now();
    endpoint.stats(|stats| {
        let latency = stats.latency();
        let last = stats.last_error.map(|(kind, at)| LastError { kind, ago: now.saturating_duration_since(at) });
        ModelStatus {
            last_error: last,
            latency_p50: latency.map(|(half, _)| half),
            latency_p95: latency.map(|(_, most)| most),
            calls: stats.calls,
            errors: stats.errors,
            input_tokens: stats.input_tokens,
            output_tokens: stats.output_tokens,
            spend: stats.spend,
            ..status
        }
    })
}

/// A route's status: its best target's health. Its calls are counted with the models that it asks.
pub(super) fn of_route(catalogue: &Catalogue, name: &str, targets: &[Target], models: &[ModelStatus]) -> ModelStatus {
    let names: Vec<&String> = targets.iter().flat_map(|target| &target.nodes).collect();
    let health = names.iter().map(|name| {
        models.iter().find(|model| model.name == **name).map_or(NodeHealth::Unconfigured, |model| model.health)
    });
    let first = targets.iter().find_map(|target| target.nodes.first());
    ModelStatus {
        name: name.to_owned(),
        default: catalogue.default.as_deref() == Some(name),
        note: note_of(targets),
        targets: Some(targets.to_vec()),
        terms: first.map(|first| catalogue.terms_of(first)).unwrap_or_default(),
        health: health.min().unwrap_or(NodeHealth::Unconfigured),
        ..ModelStatus::nothing()
    }
}

impl ModelStatus {
    /// One that was never called.
    fn nothing() -> Self {
        Self {
            name: String::new(),
            default: false,
            note: String::new(),
            targets: None,
            terms: ModelTerms::default(),
            health: NodeHealth::Up,
            outstanding: 0,
            last_error: None,
            latency_p50: None,
            latency_p95: None,
            calls: 0,
            errors: 0,
            input_tokens: 0,
            output_tokens: 0,
            spend: Usd(0),
        }
    }
}

/// What a route does, in words: `a/x, then one of b/y and c/y`.
pub(super) fn note_of(targets: &[Target]) -> String {
    let words = |target: &Target| match target.nodes.as_slice() {
        [one] => one.clone(),
        many => format!("the least busy of {}", many.join(", ")),
    };
    format!("asks {}", targets.iter().map(words).collect::<Vec<_>>().join("; then "))
}
