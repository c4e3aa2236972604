//! Servers that bring tools of their own: what a person may see of them, and which of their words somebody accepted.
//!
//! A server writes its tools' descriptions and schemas, and may write others tomorrow. So what a model is told is
//! *pinned*: a tool whose server describes it differently from what was accepted is not usable until a person approves.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use domain::{Approval, Effect};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A tool's definition that was accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pin {
    /// Digest of the definition exactly as the server gave it.
    pub digest: String,
    /// The definition, as its server gave it.
    pub definition: Value,
}

/// Accepted definitions, by the tool's name within its server.
pub type Pins = BTreeMap<String, Pin>;

/// The accepted definitions could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the accepted tools could not be read or written: {0}")]
pub struct PinsError(pub String);

/// Keeps which definitions were accepted.
#[async_trait]
pub trait ToolPins: Send + Sync + 'static {
    /// Finds what was accepted of a server; `None` when the server was never seen.
    async fn get(&self, server: &str) -> Result<Option<Pins>, PinsError>;

    /// Replaces what is accepted of a server.
    async fn put(&self, server: &str, pins: &Pins) -> Result<(), PinsError>;
}

/// Keeps the accepted definitions for as long as the process runs: for trying servers out, and for tests.
#[derive(Debug, Default)]
pub struct MemoryPins(Mutex<BTreeMap<String, Pins>>);

#[async_trait]
impl ToolPins for MemoryPins {
    async fn get(&self, server: &str) -> Result<Option<Pins>, PinsError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(server).cloned())
    }

    async fn put(&self, server: &str, pins: &Pins) -> Result<(), PinsError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(server.to_owned(), pins.clone());
        Ok(())
    }
}

/// A server that brings tools.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Its name; its tools are called `name.tool`.
    pub name: String,
    /// How it is reached: `stdio` or `http`.
    pub transport: String,
    /// The command line, in full, or the URL.
    pub target: String,
    /// How it is.
    pub state: ServerState,
    /// Why it cannot be used, when it cannot.
    pub reason: Option<String>,
    /// The revision of the protocol that is spoken with it, once it was.
    pub protocol: Option<String>,
    /// How often it was started or connected to.
    pub starts: u64,
    /// Its tools, by name.
    pub tools: Vec<ToolStatus>,
}

/// How a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// Nothing is connected; the next call connects.
    Idle,
    /// Connected.
    Ready,
    /// It failed; it is tried again after a pause.
    Unavailable,
}

/// A tool of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolStatus {
    /// Its full name, `server.tool`.
    pub name: String,
    /// Whether agents can use it.
    pub state: ToolState,
    /// Why they cannot, when they cannot.
    pub reason: Option<String>,
    /// What the server says of it now; what cannot be seen is written out as `\u{…}`.
    pub description: String,
    /// What it said when it was accepted, when that is something else.
    pub accepted_description: Option<String>,
    /// What repeating a call does, as the operator says.
    pub effect: Effect,
    /// When a person must allow a call, as the operator says.
    pub approval: Approval,
    /// The server's own claim that the tool changes nothing. A claim: nothing is decided by it.
    pub claims_read_only: bool,
    /// The schema of its arguments.
    pub parameters: Value,
}

/// Whether agents can use a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolState {
    /// They can.
    Usable,
    /// The server brings it since it was accepted; a person has to approve it.
    New,
    /// The server describes it differently from what was accepted; a person has to approve that.
    Changed,
    /// It was accepted, and the server no longer has it.
    Missing,
    /// The operator's file leaves it out.
    Denied,
    /// Its name or schema is not acceptable; no approval changes that.
    Refused,
}

/// Why nothing was approved.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApproveError {
    /// There is no such server.
    #[error("there is no server {name}")]
    UnknownServer {
        /// What was asked for.
        name: String,
    },
    /// The server has no such tool that could be approved.
    #[error("the server {server} has no tool {tool} that could be approved")]
    UnknownTool {
        /// The server.
        server: String,
        /// What was asked for.
        tool: String,
    },
    /// The server did not answer, so nobody knows what would be approved.
    #[error("the server {server} could not be asked for its tools: {reason}")]
    Unavailable {
        /// The server.
        server: String,
        /// Why.
        reason: String,
    },
    /// The process that has the servers cannot be asked.
    #[error("{reason}")]
    Elsewhere {
        /// Why.
        reason: String,
    },
    /// The decision could not be kept.
    #[error(transparent)]
    Pins(#[from] PinsError),
}

/// The subject of requests to whoever has the servers: pools, any of which answers for all.
pub const SUBJECT: &str = "tools";

/// What a process without servers asks one that has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum ServersAsked {
    /// The list.
    List,
    /// To accept what a server says.
    Approve {
        /// The server.
        server: String,
        /// One of its tools, or all.
        tool: Option<String>,
    },
}

/// What it is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum ServersAnswered {
    /// The servers that were asked for.
    Servers {
        /// By name.
        servers: Vec<ServerStatus>,
    },
    /// There is no such server.
    UnknownServer {
        /// What was asked for.
        name: String,
    },
    /// The server has no such tool that could be approved.
    UnknownTool {
        /// The server.
        server: String,
        /// What was asked for.
        tool: String,
    },
    /// It could not be done now.
    Failed {
        /// Why.
        reason: String,
    },
}

impl ServersAnswered {
    /// Asks `servers` for what was asked.
    pub async fn to(asked: ServersAsked, servers: &dyn ToolServers) -> Self {
        let answer = match asked {
            ServersAsked::List => servers.list().await,
            ServersAsked::Approve { server, tool } => {
                servers.approve(&server, tool.as_deref()).await.map(|server| vec![server])
            }
        };
        match answer {
            Ok(servers) => Self::Servers { servers },
            Err(ApproveError::UnknownServer { name }) => Self::UnknownServer { name },
            Err(ApproveError::UnknownTool { server, tool }) => Self::UnknownTool { server, tool },
            Err(error) => Self::Failed { reason: error.to_string() },
        }
    }

    /// The servers, or why there are none.
    pub fn servers(self) -> Result<Vec<ServerStatus>, ApproveError> {
        match self {
            Self::Servers { servers } => Ok(servers),
            Self::UnknownServer { name } => Err(ApproveError::UnknownServer { name }),
            Self::UnknownTool { server, tool } => Err(ApproveError::UnknownTool { server, tool }),
            Self::Failed { reason } => Err(ApproveError::Elsewhere { reason }),
        }
    }
}

/// The servers that bring tools, for whoever runs the platform.
#[async_trait]
pub trait ToolServers: Send + Sync + 'static {
    /// Lists the servers by name. Starts nothing.
    async fn list(&self) -> Result<Vec<ServerStatus>, ApproveError>;

    /// Connects to a server, if nothing is connected, and lists its tools anew.
    async fn refresh(&self, server: &str) -> Result<ServerStatus, ApproveError>;

    /// Accepts what a server says of one tool, by its name within the server, or of all of them, as it was last listed.
    async fn approve(&self, server: &str, tool: Option<&str>) -> Result<ServerStatus, ApproveError>;

    /// Ends all servers.
    async fn shutdown(&self);
}

/// No servers.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoServers;

#[async_trait]
impl ToolServers for NoServers {
    async fn list(&self) -> Result<Vec<ServerStatus>, ApproveError> {
        Ok(Vec::new())
    }

    async fn refresh(&self, server: &str) -> Result<ServerStatus, ApproveError> {
        Err(ApproveError::UnknownServer { name: server.to_owned() })
    }

    async fn approve(&self, server: &str, _: Option<&str>) -> Result<ServerStatus, ApproveError> {
        Err(ApproveError::UnknownServer { name: server.to_owned() })
    }

    async fn shutdown(&self) {}
}
