//! The journal: what happened in a task, one finished step after another.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    AgentName, Amount, Dimension, Failure, FinishReason, Reasoning, TaskId, TaskInput, TaskStatus, Timestamp, ToolCall,
    Usage, WorkerId,
};

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
    /// Model calls that gave no answer, when none followed that did.
    Tried {
        /// The calls, oldest first.
        tries: Vec<ModelTry>,
    },
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
    /// A tool was asked whether a call with an unknown outcome had happened.
    Probed {
        /// The call whose outcome is unknown.
        call_id: String,
        /// The tool that was asked.
        tool: String,
        /// What it said; absent when it did not know.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        happened: Option<bool>,
        /// Its answer, or the words of its error.
        value: Value,
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

impl StepBody {
    /// What kind of entry it is, as it is written in JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Input(_) => "input",
            Self::Model(_) => "model",
            Self::Tried { .. } => "tried",
            Self::ToolStarted { .. } => "tool_started",
            Self::Tool(_) => "tool",
            Self::Rejected { .. } => "rejected",
            Self::Parked { .. } => "parked",
            Self::Probed { .. } => "probed",
            Self::Resolved { .. } => "resolved",
            Self::AttemptFailed { .. } => "attempt_failed",
            Self::LeaseLost { .. } => "lease_lost",
            Self::Retried { .. } => "retried",
        }
    }
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
    /// What it thought.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasoning: Vec<Reasoning>,
    /// The calls before this one that gave no answer, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tries: Vec<ModelTry>,
}

/// A model call that gave no answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelTry {
    /// The model that was asked, as `provider/name`.
    pub model: String,
    /// Why there was no answer; `limit_exceeded` for one that was not asked because a budget did not allow it.
    pub failure: Failure,
    /// What it used all the same, rounded up: what was read and what was said before it broke off.
    #[serde(default, skip_serializing_if = "Usage::is_empty")]
    pub usage: Usage,
}

impl ModelStep {
    /// What the answer and the calls before it used.
    pub fn total_usage(&self) -> Usage {
        let mut usage = self.usage;
        for attempt in &self.tries {
            usage += attempt.usage;
        }
        usage
    }

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
    /// A person allows the call, or refuses it; the value of the signal is an `ApprovalDecision`.
    Approval {
        /// The tool.
        tool: String,
        /// The very arguments that the decision is about.
        arguments: Value,
        /// Names this call with these arguments: whoever decides says it back.
        digest: String,
        /// Why a person is asked.
        reason: String,
    },
    /// A person raises a budget, or does not; the value of the signal is a `BudgetDecision`.
    Budget {
        /// The account that did not allow the next call.
        account: String,
        /// What was short.
        what: Dimension,
        /// Its limit.
        limit: u64,
        /// What is spent and reserved.
        used: u64,
        /// What the next call might take.
        asked: u64,
    },
}

impl WaitFor {
    /// The name of the signal that ends the wait of a call; none when no signal does.
    pub fn signal(&self, call_id: &str) -> Option<String> {
        match self {
            Self::Signal { name, .. } => Some(name.clone()),
            Self::Approval { .. } => Some(format!("{APPROVAL_SIGNALS}{call_id}")),
            Self::Budget { .. } => Some(format!("{BUDGET_SIGNALS}{call_id}")),
            Self::Child { .. } | Self::Timer { .. } => None,
        }
    }
}

/// How the names of signals begin that decide about calls; they come from `/approvals` alone.
pub const APPROVAL_SIGNALS: &str = "approval/";
/// How the names of signals begin that raise budgets; they come from `/budget` alone.
pub const BUDGET_SIGNALS: &str = "budget/";

/// A person's decision about a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalDecision {
    /// Whether the call may be made.
    pub approved: bool,
    /// The digest of the call that was decided about.
    pub digest: String,
    /// The arguments as the person edited them; absent: as the model gave them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Value>,
    /// Why; the model is told when the call was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A person's decision about a budget that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetDecision {
    /// What this task may use beyond the limit; nothing stops the task.
    pub grant: Amount,
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
