//! What operators ask about the platform: its pools and its models.

use std::collections::BTreeMap;

use domain::{ExecutionMode, TaskStatus};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ExecutionModeSchema;

/// How much work there is, and who does it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "tasks": { "queued": 12, "running": 4, "waiting": 1, "succeeded": 1841, "failed": 3, "cancelled": 2 },
    "leases": 4,
    "busy_workers": 1,
    "pools": [{ "execution_mode": "autonomous", "queued": 12, "announced": 12 }],
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
}

/// A model that an agent's file can name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "name": "openai/gpt-5-mini", "default": true, "note": "OPENAI_API_KEY is set" }))]
pub struct ModelView {
    /// `provider/name`.
    pub name: String,
    /// True for the one that `default` stands for.
    pub default: bool,
    /// Where it is and why it was chosen.
    pub note: String,
}
