//! Settings of files that an operator writes, the same for every process that reads them.

use std::path::PathBuf;

use common::config::Validate;
use serde::{Deserialize, Serialize};

use crate::LIMITS_FILE;

/// Where the operator's limits are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// The file of what namespaces may spend, and how many of their tasks run and start. The usual one need not be there.
    pub agentrunner_limits: PathBuf,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self { agentrunner_limits: PathBuf::from(LIMITS_FILE) }
    }
}

impl Validate for LimitSettings {
    fn problems(&self) -> Vec<String> {
        // Starting without limits could cost what they are there to prevent.
        let read = crate::read_limits(&self.agentrunner_limits);
        read.err().map(|error| format!("AGENTRUNNER_LIMITS: {}", common::program::chain(&error))).into_iter().collect()
    }
}

impl LimitSettings {
    /// Reads the limits; nobody may work without them when they cannot be read.
    pub fn read(&self) -> Result<std::sync::Arc<domain::PlatformLimits>, crate::LimitsError> {
        crate::read_limits(&self.agentrunner_limits).map(std::sync::Arc::new)
    }
}

/// Where the servers that bring tools are declared, and what tools may reach.
#[cfg(feature = "tools")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ToolSettings {
    /// The file of the servers that bring tools. The usual one need not be there.
    pub agentrunner_tools: PathBuf,
    /// Hosts and ports in private networks that tools may call: `127.0.0.1:9999,tools.internal:8080`.
    pub agent_egress_allow_private: String,
    /// The folder of the tokens that people granted to tool servers.
    pub tool_tokens_dir: PathBuf,
}

#[cfg(feature = "tools")]
impl Default for ToolSettings {
    fn default() -> Self {
        Self {
            agentrunner_tools: PathBuf::from(crate::tools::TOOLS_FILE),
            agent_egress_allow_private: String::new(),
            tool_tokens_dir: PathBuf::from("data"),
        }
    }
}

#[cfg(feature = "tools")]
impl Validate for ToolSettings {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Err(error) = self.file() {
            problems.push(format!("AGENTRUNNER_TOOLS: {}", common::program::chain(&error)));
        }
        if let Err(error) = ::tools::egress::HostPort::parse_list(&self.agent_egress_allow_private) {
            problems.push(format!("AGENT_EGRESS_ALLOW_PRIVATE: each item {error}"));
        }
        problems
    }
}

#[cfg(feature = "tools")]
impl ToolSettings {
    /// Reads the file of the servers.
    pub fn file(&self) -> Result<crate::tools::ToolsFile, crate::tools::ToolsFileError> {
        let named = self.agentrunner_tools != std::path::Path::new(crate::tools::TOOLS_FILE);
        crate::tools::load(&self.agentrunner_tools, named)
    }

    /// The names of the servers; their tools are `server.tool`.
    pub fn servers(&self) -> std::sync::Arc<[String]> {
        self.file().map(|file| file.servers.into_keys().collect()).unwrap_or_default()
    }
}
