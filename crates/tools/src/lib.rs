//! Tools: a port, the built-in ones, and the guard through which they reach the outside.

mod builtin;
pub mod egress;
pub mod schema;
pub mod servers;
mod toolbox;
mod workspace;

use async_trait::async_trait;
use domain::{AgentName, AgentSpec, Namespace, Task, TaskInput, ToolSpec};
use serde_json::Value;

pub use builtin::{BuiltinOptions, builtin};
pub use toolbox::{AllowedTool, Refusal, ToolSource, Toolbox, Toolkit};
pub use workspace::{AgentBrief, ArtifactInfo, MemoryScope, NoWorkspace, Workspace};

/// Does something for an agent.
#[async_trait]
pub trait Tool: Send + Sync + 'static {
    /// What the tool is called, takes and promises, for one agent; `None` when the agent has no use for it (for example
    /// `delegate` without delegates).
    fn spec(&self, agent: &AgentSpec) -> Option<ToolSpec>;

    /// Runs the tool. The arguments match the schema of its spec. A call that is dropped stops.
    async fn call(&self, context: &CallContext<'_>, arguments: Value) -> Result<ToolReply, ToolError>;
}

/// Who calls.
pub struct CallContext<'a> {
    /// The task.
    pub task: &'a Task,
    /// Its agent.
    pub agent: &'a AgentSpec,
    /// The call's id.
    pub call_id: &'a str,
    /// The same for every repetition of this call, and for no other call.
    pub idempotency_key: String,
    /// The time of the call.
    pub now: domain::Timestamp,
    /// What the platform does for the task.
    pub workspace: &'a dyn Workspace,
}

impl CallContext<'_> {
    /// Who owns the task.
    pub fn namespace(&self) -> &Namespace {
        &self.task.namespace
    }
}

/// What a tool answers.
#[derive(Debug, Clone, PartialEq)]
pub enum ToolReply {
    /// It is done.
    Done(Value),
    /// The task must wait; the answer comes when the wait ends.
    Wait(WaitRequest),
    /// Another agent gets a piece of work whose answer nobody waits for; the task goes on with the new task's id.
    Send {
        /// The other agent, one of those that this agent may delegate to.
        agent: AgentName,
        /// What it is told.
        input: TaskInput,
    },
}

/// What a tool wants its task to wait for.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitRequest {
    /// For what.
    pub on: WaitOn,
    /// When the wait ends by itself.
    pub expires_at: Option<domain::Timestamp>,
    /// What an expired wait answers.
    pub default: Option<Value>,
}

/// What a wait is for.
#[derive(Debug, Clone, PartialEq)]
pub enum WaitOn {
    /// A sub-task that has yet to be made.
    Delegate {
        /// Its agent.
        agent: AgentName,
        /// What it is asked to do.
        input: TaskInput,
    },
    /// A person's answer, sent as a signal.
    Signal {
        /// The signal's name.
        name: String,
        /// What is asked.
        question: String,
        /// The answers offered.
        options: Vec<String>,
    },
    /// A moment.
    Timer {
        /// The moment.
        at: domain::Timestamp,
    },
}

/// Why a tool failed; the model is told. Never a secret.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ToolError {
    /// A stable code, such as `blocked_destination`.
    pub code: &'static str,
    /// What happened, in words for a model.
    pub message: String,
    /// Nobody knows whether the call happened: it was sent, and no whole answer came. For a `once` tool this is the outcome
    /// `unknown`, and not an error after which a model may try again.
    pub unknown: bool,
}

impl ToolError {
    /// Makes an error.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), unknown: false }
    }

    /// The same for a call of which nobody knows whether it happened.
    #[must_use]
    pub fn unknown(self) -> Self {
        Self { unknown: true, ..self }
    }
}
