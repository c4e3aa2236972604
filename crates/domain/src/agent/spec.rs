//! The shape of an agent's file, with the defaults of what it leaves out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{AgentName, Effect, HumanDuration, UnknownPolicy};

/// An agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {
    /// The agent's name, unique in its namespace.
    pub name: AgentName,
    /// What the agent is for, in a sentence; other agents that may delegate to it read this.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// How the agent runs.
    #[serde(default)]
    pub execution_mode: ExecutionMode,
    /// The model and what to ask of it.
    #[serde(default)]
    pub model: ModelSpec,
    /// What the model is told about its role before every task.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instructions: String,
    /// The tools that the agent may use: a name, or a name with settings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolSettings>,
    /// The agents that the tool `delegate` may give work to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delegates: Vec<AgentName>,
    /// What one task may do at most.
    #[serde(default)]
    pub limits: LimitsSpec,
    /// What one task may cost at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetSpec>,
    /// What happens when an attempt fails.
    #[serde(default)]
    pub retry: RetrySpec,
    /// What the agent remembers of its thread.
    #[serde(default)]
    pub memory: MemorySpec,
    /// JSON Schema that the answer must match; the answer is then JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// When the agent runs by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleSpec>,
    /// Who works together, for `execution_mode: collaborative`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<TeamSpec>,
    /// How the agent lives, for `execution_mode: continuous`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continuous: Option<ContinuousSpec>,
}

/// How an agent runs, and so which pool runs it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionMode {
    /// It works alone until it is done.
    #[default]
    Autonomous,
    /// It leads a team that takes turns in one conversation.
    Collaborative,
    /// It lives on, and answers messages, events and ticks.
    Continuous,
}

impl ExecutionMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Autonomous, Self::Collaborative, Self::Continuous];

    /// The name as it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Autonomous => "autonomous",
            Self::Collaborative => "collaborative",
            Self::Continuous => "continuous",
        }
    }
}

impl std::fmt::Display for ExecutionMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The model and what to ask of it. A plain string is the name alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "ModelForm")]
pub struct ModelSpec {
    /// `provider/name` such as `openai/gpt-5-mini` or `local/smollm2-135m-instruct`; `default` is what the platform found.
    pub name: String,
    /// Models to try, in this order, when the first one fails.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<String>,
    /// Randomness, 0 to 2; the provider's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// The longest answer in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
    /// How long one answer may take.
    pub timeout: HumanDuration,
    /// How long the model may be silent in the middle of an answer.
    pub idle_timeout: HumanDuration,
}

impl Default for ModelSpec {
    fn default() -> Self {
        ModelForm::Name("default".to_owned()).into()
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum ModelForm {
    Name(String),
    Full(ModelFull),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ModelFull {
    name: String,
    #[serde(default)]
    fallbacks: Vec<String>,
    temperature: Option<f64>,
    max_output_tokens: Option<u32>,
    timeout: Option<HumanDuration>,
    idle_timeout: Option<HumanDuration>,
}

impl From<ModelForm> for ModelSpec {
    fn from(form: ModelForm) -> Self {
        let full = match form {
            ModelForm::Full(full) => full,
            ModelForm::Name(name) => ModelFull {
                name,
                fallbacks: Vec::new(),
                temperature: None,
                max_output_tokens: None,
                timeout: None,
                idle_timeout: None,
            },
        };
        Self {
            name: full.name,
            fallbacks: full.fallbacks,
            temperature: full.temperature,
            max_output_tokens: full.max_output_tokens,
            timeout: full.timeout.unwrap_or(HumanDuration::from_secs(300)),
            idle_timeout: full.idle_timeout.unwrap_or(HumanDuration::from_secs(60)),
        }
    }
}

/// A tool that an agent may use, with what the operator narrows or sets. A plain string is the name alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "ToolForm")]
pub struct ToolSettings {
    /// The tool's name.
    pub name: String,
    /// Overrides what repeating a call does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// What to do when a `once` call's outcome is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_unknown: Option<UnknownPolicy>,
    /// For `http_request`: the hosts that it may call (`host`, `host:port` or `*.domain`); none means every public host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// How long one call may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<HumanDuration>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum ToolForm {
    Name(String),
    Full(ToolFull),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ToolFull {
    name: String,
    effect: Option<Effect>,
    on_unknown: Option<UnknownPolicy>,
    #[serde(default)]
    allow: Vec<String>,
    timeout: Option<HumanDuration>,
}

impl From<ToolForm> for ToolSettings {
    fn from(form: ToolForm) -> Self {
        match form {
            ToolForm::Name(name) => Self { name, effect: None, on_unknown: None, allow: Vec::new(), timeout: None },
            ToolForm::Full(full) => Self {
                name: full.name,
                effect: full.effect,
                on_unknown: full.on_unknown,
                allow: full.allow,
                timeout: full.timeout,
            },
        }
    }
}

/// What one task may do at most. Reaching a limit fails the task with `limit_exceeded`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSpec {
    /// Model calls, 1 to 10,000.
    pub max_steps: u32,
    /// Tool calls, 0 to 100,000.
    pub max_tool_calls: u32,
    /// Tool calls of one answer, 1 to 128; the whole answer is refused when it asks for more.
    pub max_parallel_tool_calls: u32,
    /// Tokens read and written.
    pub max_tokens: u64,
    /// Time from the first start to the end, waiting included.
    pub wall_time: HumanDuration,
    /// Delegations below the first task, 0 to 16.
    pub max_depth: u32,
    /// Sub-tasks of one task, 0 to 1,000.
    pub max_children: u32,
    /// How often the same call with the same result may come before the loop detector stops the task.
    pub max_repeats: u32,
}

impl Default for LimitsSpec {
    fn default() -> Self {
        Self {
            max_steps: 32,
            max_tool_calls: 64,
            max_parallel_tool_calls: 16,
            max_tokens: 1_000_000,
            wall_time: HumanDuration::from_secs(24 * 3_600),
            max_depth: 4,
            max_children: 32,
            max_repeats: 3,
        }
    }
}

/// What one task may cost at most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetSpec {
    /// Money in US dollars.
    pub usd: f64,
}

/// What happens when an attempt fails in a way that another may mend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySpec {
    /// Attempts in all, 1 to 100.
    pub max_attempts: u32,
    /// The pause after the first failure; it doubles with each further one, with jitter.
    pub initial_backoff: HumanDuration,
    /// The longest pause.
    pub max_backoff: HumanDuration,
}

impl Default for RetrySpec {
    fn default() -> Self {
        Self {
            max_attempts: 4,
            initial_backoff: HumanDuration::from_secs(1),
            max_backoff: HumanDuration::from_secs(300),
        }
    }
}

/// What the agent remembers of its thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MemorySpec {
    /// How many of the thread's latest messages the model is shown, 0 to 1,000.
    pub thread_messages: u32,
}

impl Default for MemorySpec {
    fn default() -> Self {
        Self { thread_messages: 40 }
    }
}

/// When the agent runs by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSpec {
    /// A cron expression of five fields.
    pub cron: String,
    /// An IANA time zone.
    #[serde(default = "utc")]
    pub timezone: String,
    /// What each run is asked to do.
    pub prompt: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// Who works together, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TeamSpec {
    /// Who speaks when.
    pub pattern: TeamPattern,
    /// The agents of the team, 1 to 16.
    pub members: Vec<AgentName>,
    /// How often everyone may speak, 1 to 100.
    #[serde(default = "three")]
    pub max_rounds: u32,
}

fn three() -> u32 {
    3
}

/// Who of a team speaks when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TeamPattern {
    /// One after another, again and again.
    RoundRobin,
    /// The leader names who is next.
    Supervisor,
    /// All answer, then comment on each other, then the leader decides.
    Debate,
    /// Each works on what the one before made.
    Pipeline,
}

/// How a continuous agent lives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ContinuousSpec {
    /// After how long without work it hibernates.
    pub idle_timeout: HumanDuration,
    /// How often it is woken without a message; never when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tick: Option<HumanDuration>,
}

impl Default for ContinuousSpec {
    fn default() -> Self {
        Self { idle_timeout: HumanDuration::from_secs(300), tick: None }
    }
}
