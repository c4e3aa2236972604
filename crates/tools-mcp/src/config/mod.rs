//! The operator's file of servers, `config/tools.yml`.
//!
//! It lies outside the agents' folder and is read once, at start: nobody who can only write agents can have a program
//! started, or a header sent.

mod programs;
mod rules;
mod secret;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use domain::file::FileProblem;
use domain::{Approval, Effect, HumanDuration, UnknownPolicy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use programs::resolve;
pub use secret::{SecretError, Setting, SettingRef};

/// The servers whose tools agents may use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ToolsFile {
    /// The servers, by a name of at most 32 letters, digits, `-` and `_`; an agent names a tool of one as `server.tool`.
    pub servers: BTreeMap<String, ServerSpec>,
}

/// A server that speaks the Model Context Protocol: a program (`command`), or one elsewhere (`url`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSpec {
    /// The program: an absolute path, or a bare name that is looked up in PATH once, at start. Never a shell's command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Its arguments, each passed on as it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its environment: a text, `{env: NAME}` or `{file: PATH}`. It gets these variables, a plain PATH, and no others.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Setting>,
    /// The folder that it runs in: an absolute path; the root folder when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// Where a server that is not a program of ours listens, `https://…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Headers of every request: a text, `{env: NAME}` or `{file: PATH}`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Setting>,
    /// How to get a token for the URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth: Option<OAuthSpec>,
    /// Allows the URL to be on this machine or in a private network.
    pub allow_private: bool,
    /// Further hosts in private networks that may be asked for tokens, as `host:port`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_private_hosts: Vec<String>,
    /// The only tools of it that exist here; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Tools of it that do not exist here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// What is known of single tools, by their name within the server.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tools: BTreeMap<String, ToolRules>,
    /// Whether a tool that changes its description or schema must be approved by a person before it is used again.
    pub trust: Trust,
    /// Adds the tools `server.list_resources` and `server.read_resource`.
    pub resources: bool,
    /// How long a call may take, `100ms` to `1h`; `60s` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<HumanDuration>,
    /// How long the server may take to start and list its tools, `100ms` to `10m`; `30s` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup_timeout: Option<HumanDuration>,
    /// How much of an answer a model is given, in bytes, 1,024 to 16,777,216; 1,048,576 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_024, max = 16_777_216))]
    pub max_output_bytes: Option<usize>,
}

/// What the operator knows of a tool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ToolRules {
    /// What repeating a call does; `once` when absent, whatever the server claims.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// What to do when a `once` call's outcome is unknown; `ask` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_unknown: Option<UnknownPolicy>,
    /// When a person must allow a call; `never` when absent. An agent's file can only be stricter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// How long a call may take, `100ms` to `1h`; the server's `timeout` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<HumanDuration>,
    /// What a call costs in US dollars, 0 to 1,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub cost_usd: Option<f64>,
}

/// Whether what a server says of its tools may change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// What it said first is accepted; whatever it says differently later must be approved.
    #[default]
    Pinned,
    /// Whatever it says is accepted.
    Always,
}

/// How to get a token for a server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OAuthSpec {
    /// Who allows it: `authorization_code`, a person with `agentrunner tools login`; `client_credentials`, nobody.
    pub grant: Grant,
    /// Our id at the authorization server; registered by itself when absent and the server allows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Our secret there, `{env: NAME}` or `{file: PATH}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Setting>,
    /// The https address at which you publish a document about us, for authorization servers that take it as our id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_metadata_url: Option<String>,
    /// What to ask for; what the server asks for when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// The port on this machine that the browser comes back to; a free one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_port: Option<u16>,
}

/// Who allows a token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// A person, in a browser.
    #[default]
    AuthorizationCode,
    /// Nobody: the platform itself is the client.
    ClientCredentials,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ToolsFileError {
    /// It could not be read.
    #[error("the tools file {path} could not be read")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is wrong.
    #[error("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong {
        /// All that is wrong.
        problems: Vec<FileProblem>,
    },
}

impl ToolsFile {
    /// The JSON Schema of the file.
    pub fn schema() -> serde_json::Value {
        domain::file::schema::<Self>("AgentRunner tools")
    }

    /// Reads a file's text; `file` is only for the problems.
    pub fn parse(file: &str, text: &[u8]) -> Result<Self, Vec<FileProblem>> {
        domain::file::parse_with(&Self::schema(), file, text, rules::findings)
    }

    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, ToolsFileError> {
        let text = std::fs::read(path).map_err(|source| ToolsFileError::Read { path: path.to_owned(), source })?;
        Self::parse(&path.display().to_string(), &text).map_err(|problems| ToolsFileError::Wrong { problems })
    }
}
