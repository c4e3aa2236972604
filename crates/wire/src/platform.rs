//! What operators ask about the platform: its pools and its models.

use std::collections::BTreeMap;

use domain::{ExecutionMode, TaskStatus, Timestamp, Usd};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ExecutionModeSchema;

/// How much work there is, and who does it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "tasks": { "queued": 12, "running": 4, "waiting": 1, "succeeded": 1841, "failed": 3, "cancelled": 2 },
    "leases": 4,
    "busy_workers": 1,
    "pools": [{
        "execution_mode": "autonomous", "queued": 12, "announced": 12, "queue_depth": 12, "capacity": 256, "running": 4,
        "waiting": 1, "done": 1841, "failed": 3, "rate_per_second": 2.5, "p50_ms": 840, "p95_ms": 2_310,
        "workers": [{
            "worker": "0198f1c2-5f7e-7c3a-9d9e-0a4b6c8d1e2f", "host": "pool-1", "version": "0.1.0", "phase": "running",
            "started_at": "2026-05-01T12:00:00Z", "silent_ms": 400, "capacity": 256, "running": 4, "missed": 0, "done": 1841,
            "failed": 3, "cancelled": 2, "parked": 12, "retried": 5, "given_back": 0, "rate_per_second": 2.5, "p50_ms": 840,
            "p95_ms": 2_310, "agents": { "researcher": 4 }
        }]
    }],
    "threads": 40,
    "stored_bytes": 10_485_760
}))]
pub struct PoolStats {
    /// Tasks by status.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub tasks: BTreeMap<TaskStatus, u64>,
    /// Tasks that a worker holds now.
    pub leases: u64,
    /// Worker processes that hold at least one.
    pub busy_workers: u64,
    /// One entry an execution mode.
    pub pools: Vec<PoolView>,
    /// Conversations.
    pub threads: u64,
    /// Bytes that the record takes on disk.
    pub stored_bytes: u64,
}

/// The workers of one execution mode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PoolView {
    /// Which agents it runs.
    #[schema(value_type = ExecutionModeSchema)]
    pub execution_mode: ExecutionMode,
    /// Tasks that are queued for it, those of a later time included.
    pub queued: u64,
    /// Announcements that wait for one of its workers.
    pub announced: u64,
    /// The same, as the queue says it: how long its queue is.
    #[serde(default)]
    pub queue_depth: u64,
    /// How many tasks its workers run at most at once.
    #[serde(default)]
    pub capacity: u64,
    /// How many they run.
    #[serde(default)]
    pub running: u64,
    /// Tasks of its agents that wait for a person, a sub-task or a moment, and hold no worker.
    #[serde(default)]
    pub waiting: u64,
    /// Runs that ended with an answer since the workers started.
    #[serde(default)]
    pub done: u64,
    /// Runs that failed for good since the workers started.
    #[serde(default)]
    pub failed: u64,
    /// Runs that ended in a second, over the last minute.
    #[serde(default)]
    pub rate_per_second: f64,
    /// How long half of the runs of the last minute took at most; off by an eighth at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<u64>,
    /// How long 95 of 100 of them took at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<u64>,
    /// The worker processes that were heard in the last seconds, by when they started.
    #[serde(default)]
    pub workers: Vec<WorkerView>,
}

/// A worker process as it last told of itself. Counts are since it started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerView {
    /// The process; a restarted one is another.
    pub worker: String,
    /// The machine or container that it runs in.
    pub host: String,
    /// Its version.
    pub version: String,
    /// `starting`, `running` or `draining`.
    pub phase: String,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// How long ago it told this.
    pub silent_ms: u64,
    /// How many tasks it runs at most at once.
    pub capacity: u64,
    /// How many it runs.
    pub running: u64,
    /// Announcements whose task was already taken or had ended.
    pub missed: u64,
    /// Runs that ended with an answer.
    pub done: u64,
    /// Runs that failed for good.
    pub failed: u64,
    /// Runs that were stopped.
    pub cancelled: u64,
    /// Runs that began to wait and gave their place free.
    pub parked: u64,
    /// Attempts that failed and will be followed by another.
    pub retried: u64,
    /// Runs that were given back, or dropped because their lease was lost.
    pub given_back: u64,
    /// Runs that ended in a second, over the last minute.
    pub rate_per_second: f64,
    /// How long half of the runs of the last minute took at most; off by an eighth at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<u64>,
    /// How long 95 of 100 of them took at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<u64>,
    /// Tasks that it runs, by agent.
    pub agents: BTreeMap<String, u64>,
}

/// A model or a route that an agent's file can name, and how it does in the process that answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "name": "openai/gpt-5-mini",
    "kind": "model",
    "default": true,
    "note": "https://api.openai.com/v1, because OPENAI_API_KEY is set",
    "price": { "input": 0.25, "output": 2.0, "cached_input": 0.025 },
    "context_window": 400_000,
    "max_output_tokens": 128_000,
    "health": "up",
    "outstanding": 2,
    "latency_p50_ms": 840,
    "latency_p95_ms": 2_310,
    "calls": 311,
    "errors": 1,
    "input_tokens": 40_112,
    "output_tokens": 9_120,
    "spend_usd": 0.028_268,
    "last_error": { "kind": "rate_limited", "at": "2026-05-01T12:00:00Z" }
}))]
pub struct ModelView {
    /// `provider/name`, or a route.
    pub name: String,
    /// `model` or `route`.
    #[serde(default)]
    pub kind: ModelKind,
    /// True for the one that `default` stands for.
    pub default: bool,
    /// Where it is and why it was chosen; what a route asks.
    pub note: String,
    /// What a route asks, in its order; each entry is one model, or several nodes of which the least busy is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Vec<String>>,
    /// What it costs; absent when that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<ModelPrice>,
    /// Tokens that it can read and write in one call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window: Option<u64>,
    /// Tokens that it can write in one call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
    /// True for a model that makes vectors of texts and does not chat.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub embeddings: bool,
    /// Whether it can be asked now: `up`, `trying` (one call tries whether it works again), `paused` (it asked us to slow
    /// down), `down`, or `unconfigured` (a route whose providers cannot be used).
    #[serde(default)]
    pub health: String,
    /// Calls under way.
    #[serde(default)]
    pub outstanding: u32,
    /// How long half of the last answers took at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_p50_ms: Option<u64>,
    /// How long 95 of 100 took at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_p95_ms: Option<u64>,
    /// Calls since the process started, those that failed included. A route's are counted with its models.
    #[serde(default)]
    pub calls: u64,
    /// Calls that failed.
    #[serde(default)]
    pub errors: u64,
    /// Tokens read.
    #[serde(default)]
    pub input_tokens: u64,
    /// Tokens written.
    #[serde(default)]
    pub output_tokens: u64,
    /// What it cost since the process started.
    #[serde(default)]
    #[schema(value_type = f64)]
    pub spend_usd: Usd,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<ModelError>,
    /// What is wrong with the file of the models since it changed; these are the models of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    /// One model of one provider.
    #[default]
    Model,
    /// Models that are asked in turn.
    Route,
}

/// US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelPrice {
    /// Tokens read.
    #[schema(value_type = f64)]
    pub input: Usd,
    /// Tokens written.
    #[schema(value_type = f64)]
    pub output: Usd,
    /// Tokens read from the provider's cache; as those read when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub cached_input: Option<Usd>,
    /// Tokens that go into the provider's cache; as those read when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub cache_write: Option<Usd>,
}

/// What went wrong with a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelError {
    /// What it was.
    pub kind: String,
    /// When, by the clock of the process that answers.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}
