//! Agents as the orchestrator shows them.

use domain::{AgentName, ExecutionMode, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ExecutionModeSchema;

/// An agent and what it does at the moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "name": "researcher",
    "status": "busy",
    "execution_mode": "autonomous",
    "description": "Answers questions from public sources",
    "version": 3,
    "model": "default",
    "tools": ["http_request"],
    "running": 2,
    "queued": 5,
    "waiting": 0,
    "last_seen": "2026-05-01T12:00:00Z"
}))]
pub struct AgentView {
    /// Its name.
    #[schema(value_type = String, pattern = "^[a-z0-9][a-z0-9._-]{0,62}$")]
    pub name: AgentName,
    /// What it does at the moment.
    pub status: AgentStatus,
    /// How it runs.
    #[schema(value_type = ExecutionModeSchema)]
    pub execution_mode: ExecutionMode,
    /// What it is for.
    pub description: String,
    /// The version that new tasks get.
    pub version: u32,
    /// The model that its file names.
    pub model: String,
    /// The tools that it may use.
    pub tools: Vec<String>,
    /// Its tasks that a worker holds.
    pub running: u64,
    /// Its tasks that are queued.
    pub queued: u64,
    /// Its tasks that wait for somebody or something.
    pub waiting: u64,
    /// Why it is degraded or paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When a worker last began or ended a task of it, as far as the workers that run now told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_seen: Option<Timestamp>,
}

/// What an agent does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentStatus {
    /// It has no task that has not ended.
    Idle,
    /// At least one of its tasks is queued or runs.
    Busy,
    /// All of its tasks wait: for a person, a sub-task or a moment.
    Waiting,
    /// Its recent tasks fail, or no worker runs that could do its tasks.
    Degraded,
    /// The workers that could do its tasks take none.
    Paused,
}

impl AgentStatus {
    /// Judges by the tasks that have not ended.
    pub fn of(running: u64, queued: u64, waiting: u64) -> Self {
        if running + queued > 0 {
            Self::Busy
        } else if waiting > 0 {
            Self::Waiting
        } else {
            Self::Idle
        }
    }

    /// The name as it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Waiting => "waiting",
            Self::Degraded => "degraded",
            Self::Paused => "paused",
        }
    }
}
