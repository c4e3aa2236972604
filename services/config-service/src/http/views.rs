//! The bodies of the answers.

use domain::agent::FileProblem;
use domain::{AgentName, AgentSpec, ExecutionMode, Timestamp};
use serde::{Deserialize, Serialize};
use state::agents::AgentVersion;
use utoipa::ToSchema;
use wire::{AgentSpecSchema, ExecutionModeSchema};

use crate::{CatalogueEntry, EntryStatus};

/// An agent of the folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "name": "researcher", "version": 3, "status": "ok", "file": "researcher.yml", "execution_mode": "autonomous",
    "description": "Answers questions from public sources", "model": "default", "tools": ["http_request"],
    "updated_at": "2026-01-31T12:00:00Z"
}))]
pub(crate) struct ConfigView {
    /// Its name.
    #[schema(value_type = String)]
    pub(crate) name: AgentName,
    /// The version that new tasks get.
    pub(crate) version: u32,
    /// Whether that is what its file says.
    pub(crate) status: ConfigStatus,
    /// Its file's name within the folder.
    pub(crate) file: String,
    /// How it runs.
    #[schema(value_type = ExecutionModeSchema)]
    pub(crate) execution_mode: ExecutionMode,
    /// What it is for.
    pub(crate) description: String,
    /// Its model.
    pub(crate) model: String,
    /// The tools that it may use.
    pub(crate) tools: Vec<String>,
    /// When the version was published.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) updated_at: Timestamp,
}

/// Whether an agent is as its file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ConfigStatus {
    /// It is.
    Ok,
    /// The file is wrong: the last good version stays.
    Stale,
}

impl From<&CatalogueEntry> for ConfigView {
    fn from(entry: &CatalogueEntry) -> Self {
        let spec = &entry.version.spec;
        Self {
            name: spec.name.clone(),
            version: entry.version.version,
            status: if entry.status == EntryStatus::Ok { ConfigStatus::Ok } else { ConfigStatus::Stale },
            file: entry.file.clone(),
            execution_mode: spec.execution_mode,
            description: spec.description.clone(),
            model: spec.model.name.clone(),
            tools: spec.tools.iter().map(|tool| tool.name.clone()).collect(),
            updated_at: entry.version.created_at,
        }
    }
}

/// An agent of the folder with everything that its file says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ConfigDetail {
    /// The agent.
    #[serde(flatten)]
    pub(crate) config: ConfigView,
    /// What the active version says, defaults included.
    #[schema(value_type = AgentSpecSchema)]
    pub(crate) spec: AgentSpec,
    /// Digest of that.
    pub(crate) digest: String,
    /// What is wrong with the file, when `status` is `stale`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<FileError>,
}

impl From<&CatalogueEntry> for ConfigDetail {
    fn from(entry: &CatalogueEntry) -> Self {
        let errors = match &entry.status {
            EntryStatus::Ok => Vec::new(),
            EntryStatus::Stale(problems) => problems.iter().map(FileError::from).collect(),
        };
        let AgentVersion { spec, digest, .. } = entry.version.as_ref();
        Self { config: entry.into(), spec: spec.clone(), digest: digest.clone(), errors }
    }
}

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "file": "a.yml", "line": 3, "column": 5, "path": "limits.max_stepz", "pointer": "/limits/max_stepz",
    "reason": "unknown field", "hint": "did you mean max_steps?"
}))]
pub(crate) struct FileError {
    /// The file.
    pub(crate) file: String,
    /// The line, from 1; 0 when it is about the file as a whole.
    pub(crate) line: u32,
    /// The column in characters, from 1.
    pub(crate) column: u32,
    /// The field.
    pub(crate) path: String,
    /// The field as a JSON pointer, as in the errors of other operations.
    pub(crate) pointer: String,
    /// What is wrong.
    pub(crate) reason: String,
    /// What would be right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

impl From<&FileProblem> for FileError {
    fn from(problem: &FileProblem) -> Self {
        Self {
            file: problem.file.clone(),
            line: problem.line,
            column: problem.column,
            path: problem.path.clone(),
            pointer: pointer(&problem.path),
            reason: problem.reason.clone(),
            hint: problem.hint.clone(),
        }
    }
}

/// Writes `tools[2].name` as `/tools/2/name`.
fn pointer(path: &str) -> String {
    let parts = path.split(['.', '[']).map(|part| part.trim_end_matches(']')).filter(|part| !part.is_empty());
    parts.flat_map(|part| ["/".to_owned(), part.replace('~', "~0").replace('/', "~1")]).collect()
}

/// One version of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "version": 3, "created_at": "2026-01-31T12:00:00Z", "digest": "5f16b6…", "active": true
}))]
pub(crate) struct VersionView {
    /// Its number, from 1.
    pub(crate) version: u32,
    /// When it was published.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    /// Digest of what it says.
    pub(crate) digest: String,
    /// Whether new tasks get it.
    pub(crate) active: bool,
}

impl VersionView {
    pub(crate) fn new(version: &AgentVersion, active: u32) -> Self {
        Self {
            version: version.version,
            created_at: version.created_at,
            digest: version.digest.clone(),
            active: version.version == active,
        }
    }
}

/// One version of an agent with everything that it says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct VersionDetail {
    /// The version.
    #[serde(flatten)]
    pub(crate) version: VersionView,
    /// What it says, defaults included.
    #[schema(value_type = AgentSpecSchema)]
    pub(crate) spec: AgentSpec,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_pointer() {
        assert_eq!(pointer("tools[2].name"), "/tools/2/name");
        assert_eq!(pointer("output_schema.properties.a/b"), "/output_schema/properties/a~1b");
        assert_eq!(pointer(""), "");
    }
}
