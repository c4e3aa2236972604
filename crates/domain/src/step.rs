//! The journal: what happened in a task, one finished step after another.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{AgentName, Failure, FinishReason, TaskId, TaskInput, TaskStatus, Timestamp, ToolCall, Usage, WorkerId};

/// One entry of a task's journal. `(task, seq)` is unique; seq 0 is the input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Position in the journal, without gaps.
    pub seq: u32,
    /// The lease under which it was written; 0 when no worker held the task.
    pub epoch: u32,
    /// When it was finished.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub body: StepBody,
}

/// What a journal entry says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum StepBody {
    /// What the task was asked to do.
    Input(TaskInput),
    /// A model's finished answer.
    Model(ModelStep),
    /// The mark before a `once` tool is called.
    ToolStarted {
        /// The call that begins.
        call_id: String,
        /// The tool.
        tool: String,
    },
    /// A tool's outcome.
    Tool(ToolStep),
    /// The answer did not match `output_schema`; the model is told why and asked again.
    Rejected {
        /// What is wrong with the answer, one line a problem.
        problems: Vec<String>,
    },
    /// The task released its worker and waits.
    Parked {
        /// What it waits for; it goes on when all are resolved.
        waits: Vec<Wait>,
    },
    /// A wait ended. Written by the state, while no worker holds the task.
    Resolved {
        /// The tool call whose answer this is.
        call_id: String,
        /// How it ended.
        by: Resolution,
    },
    /// An attempt failed and another will follow.
    AttemptFailed {
        /// Which attempt, from 1.
        attempt: u32,
        /// Why.
        failure: Failure,
        /// When the next one may start.
        retry_at: Timestamp,
    },
    /// The worker that held the task fell silent; another goes on.
    LeaseLost {
        /// The silent worker.
        worker: WorkerId,
    },
    /// A person retried the ended task.
    Retried {
        /// False: what came before (but the input) no longer counts.
        keep_journal: bool,
    },
}

/// A model's finished answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelStep {
    /// The model that spoke, as `provider/name`.
    pub model: String,
    /// What it said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The tools it asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Why it stopped.
    pub finish: FinishReason,
    /// What the call used.
    pub usage: Usage,
    /// True when the text is JSON that matches the agent's `output_schema`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub structured: bool,
    /// How long the call took.
    pub duration_ms: u64,
}

impl ModelStep {
    /// The answer as a value: parsed when it is structured, else the text.
    pub fn output(&self) -> Value {
        if self.structured
            && let Ok(value) = serde_json::from_str(&self.text)
        {
            return value;
        }
        Value::String(self.text.clone())
    }
}

/// A tool call that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolStep {
    /// The call.
    pub call_id: String,
    /// The tool.
    pub tool: String,
    /// How it ended.
    pub outcome: ToolOutcome,
    /// How long it took.
    pub duration_ms: u64,
}

/// How a tool call ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolOutcome {
    /// It answered.
    Ok(Value),
    /// It failed, or was refused before it began; the model is told this text.
    Error(String),
    /// A crash cut a `once` call off: nobody knows whether it happened.
    Unknown,
}

/// One thing that a task waits for, on behalf of one tool call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Wait {
    /// The tool call that waits.
    pub call_id: String,
    /// For what.
    #[serde(rename = "for")]
    pub on: WaitFor,
    /// When the wait ends by itself; none waits for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// What an expired wait answers; none answers that it expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
}

/// What ends a wait.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WaitFor {
    /// A sub-task ends.
    Child {
        /// The sub-task.
        task: TaskId,
        /// Its agent.
        agent: AgentName,
    },
    /// Somebody sends a signal of this name.
    Signal {
        /// The signal's name.
        name: String,
        /// What is asked, for the person who answers.
        question: String,
        /// The answers offered; empty for free text.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        options: Vec<String>,
    },
    /// A moment comes.
    Timer {
        /// The moment.
        at: Timestamp,
    },
}

/// How a wait ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Resolution {
    /// The sub-task ended.
    Child(ChildOutcome),
    /// The signal came.
    Signal {
        /// Its value.
        value: Value,
        /// Who sent it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
    },
    /// The moment came.
    Timer,
    /// The wait expired.
    Expired {
        /// The default answer, if the wait had one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default: Option<Value>,
    },
}

/// How a sub-task ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChildOutcome {
    /// The sub-task.
    pub task: TaskId,
    /// Its terminal status.
    pub status: TaskStatus,
    /// Its answer, when it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Its failure, when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What it and its own sub-tasks used.
    pub usage: Usage,
}
