//! What a tool may use of the platform: always on behalf of one task, and never more than that task may.

use async_trait::async_trait;
use bytes::Bytes;
use domain::AgentName;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ToolError;

/// What the platform does for one task. Whoever runs the task binds it to that task: no argument names another one.
#[async_trait]
pub trait Workspace: Send + Sync {
    /// Finds a remembered value.
    async fn recall(&self, scope: MemoryScope, key: &str) -> Result<Option<Value>, ToolError>;

    /// Remembers a value under a key, or forgets the key. The same again changes nothing.
    async fn remember(&self, scope: MemoryScope, key: &str, value: Option<Value>) -> Result<(), ToolError>;

    /// Lists the keys of remembered values that begin with `prefix`, at most 1,000, in order.
    async fn remembered(&self, scope: MemoryScope, prefix: &str) -> Result<Vec<String>, ToolError>;

    /// Keeps a file with the task; one of the same name is replaced. The same again changes nothing.
    async fn write_artifact(&self, name: &str, media_type: &str, bytes: Bytes) -> Result<ArtifactInfo, ToolError>;

    /// Finds a file of the task.
    async fn read_artifact(&self, name: &str) -> Result<Option<(ArtifactInfo, Bytes)>, ToolError>;

    /// Lists the files of the task, by name.
    async fn artifacts(&self) -> Result<Vec<ArtifactInfo>, ToolError>;

    /// Lists the agents that this one may give work to.
    async fn agents(&self) -> Result<Vec<AgentBrief>, ToolError>;

    /// Tells whoever watches how far the call is; a hint that may be lost. `fraction` is 0 to 1.
    fn progress(&self, call_id: &str, message: &str, fraction: Option<f64>);
}

/// Who shares a remembered value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryScope {
    /// The tasks of one conversation.
    Thread,
    /// All tasks of one agent.
    Agent,
}

/// A file of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactInfo {
    /// Its name.
    pub name: String,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
}

/// An agent that another may give work to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentBrief {
    /// Its name.
    pub name: AgentName,
    /// What it is for.
    pub description: String,
}

/// A platform that does nothing for a task: for tools that are tried outside of one.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoWorkspace;

impl NoWorkspace {
    fn refuse<T>() -> Result<T, ToolError> {
        Err(ToolError::new("unavailable", "this works only within a task"))
    }
}

#[async_trait]
impl Workspace for NoWorkspace {
    async fn recall(&self, _: MemoryScope, _: &str) -> Result<Option<Value>, ToolError> {
        Self::refuse()
    }

    async fn remember(&self, _: MemoryScope, _: &str, _: Option<Value>) -> Result<(), ToolError> {
        Self::refuse()
    }

    async fn remembered(&self, _: MemoryScope, _: &str) -> Result<Vec<String>, ToolError> {
        Self::refuse()
    }

    async fn write_artifact(&self, _: &str, _: &str, _: Bytes) -> Result<ArtifactInfo, ToolError> {
        Self::refuse()
    }

    async fn read_artifact(&self, _: &str) -> Result<Option<(ArtifactInfo, Bytes)>, ToolError> {
        Self::refuse()
    }

    async fn artifacts(&self) -> Result<Vec<ArtifactInfo>, ToolError> {
        Self::refuse()
    }

    async fn agents(&self) -> Result<Vec<AgentBrief>, ToolError> {
        Self::refuse()
    }

    fn progress(&self, _: &str, _: &str, _: Option<f64>) {}
}
