//! Servers that bring tools, as the API shows them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A server that brings tools.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolServerView {
    /// Its name; its tools are called `name.tool`.
    #[schema(example = "files")]
    pub name: String,
    /// How it is reached: `stdio` or `http`.
    #[schema(example = "stdio")]
    pub transport: String,
    /// The command line, in full, or the URL.
    #[schema(example = "/usr/local/bin/mcp-files /srv/share")]
    pub target: String,
    /// `idle` (the next call connects), `ready`, or `unavailable` (it is tried again after a pause).
    #[schema(example = "ready")]
    pub state: String,
    /// Why it is unavailable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The revision of the protocol that is spoken with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "2025-11-25")]
    pub protocol: Option<String>,
    /// How often it was started or connected to.
    #[schema(example = 1)]
    pub starts: u64,
    /// Its tools, by name.
    pub tools: Vec<ToolView>,
}

/// A tool of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolView {
    /// Its full name.
    #[schema(example = "files.read_file")]
    pub name: String,
    /// `usable`; or `new` and `changed`, which a person may approve; or `missing`, `denied`, `refused`.
    #[schema(example = "changed")]
    pub state: String,
    /// Why agents cannot use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What its server says of it now; what cannot be seen is written out as `\u{…}`.
    #[schema(example = "Reads a file.")]
    pub description: String,
    /// What its server said when it was accepted, when that is something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_description: Option<String>,
    /// What repeating a call does, as the operator says.
    #[schema(example = "once")]
    pub effect: String,
    /// When a person must allow a call, as the operator says.
    #[schema(example = "never")]
    pub approval: String,
    /// The server's own claim that the tool changes nothing; nothing is decided by it.
    pub claims_read_only: bool,
    /// JSON Schema of its arguments.
    pub parameters: Value,
}

/// What of a server is approved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApproveTools {
    /// One tool, by its name within the server; all of them when absent.
    #[schema(example = "read_file")]
    pub tool: Option<String>,
}
