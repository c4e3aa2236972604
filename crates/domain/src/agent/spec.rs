//! The shape of an agent's file, with the defaults of what it leaves out.

use std::fmt;

use schemars::{JsonSchema, Schema, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::{AgentName, AmountLimit, Approval, Effect, HumanDuration, OnLimit, UnknownPolicy, Usd};

/// An agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {
    /// The agent's name, unique in its namespace.
    pub name: AgentName,
    /// What the agent is for, in a sentence; other agents that may delegate to it read this.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2_000))]
    pub description: String,
    /// How the agent runs.
    #[serde(default)]
    pub execution_mode: ExecutionMode,
    /// The model and what to ask of it.
    #[serde(default)]
    pub model: ModelSpec,
    /// What the model is told about its role before every task; at most 256 KiB. Taken word for word: nothing in it is expanded.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 262_144))]
    pub instructions: String,
    /// The tools that the agent may use: a name, or a name with settings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub tools: Vec<ToolSettings>,
    /// The agents that the tool `delegate` may give work to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub delegates: Vec<AgentName>,
    /// What one task may do at most.
    #[serde(default)]
    pub limits: LimitsSpec,
    /// What one task with its sub-tasks, and all tasks of an hour or a day, may cost at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetSpec>,
    /// How many of its tasks may run, or start, at once.
    #[serde(default, skip_serializing_if = "QueueSpec::is_empty")]
    pub queue: QueueSpec,
    /// What happens when an attempt fails.
    #[serde(default)]
    pub retry: RetrySpec,
    /// What the agent remembers of its thread.
    #[serde(default)]
    pub memory: MemorySpec,
    /// JSON Schema that the answer must match; the answer is then JSON. At most 64 KiB, without references to elsewhere.
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
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, transform = name_or_settings)]
pub struct ModelSpec {
    /// `provider/name` such as `openai/gpt-5-mini` or `local/smollm2-135m-instruct`, or a route of the operator's `models.yml`; `default` is what the platform found.
    #[schemars(length(min = 1, max = 200))]
    pub name: String,
    /// Models to try, in this order, when the first one fails; at most 8.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, length(max = 8))]
    pub fallbacks: Vec<String>,
    /// Randomness, 0 to 2; the provider's default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, range(min = 0, max = 2))]
    pub temperature: Option<f64>,
    /// The longest answer in tokens, 1 to 1,000,000; the provider's default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, range(min = 1, max = 1_000_000))]
    pub max_output_tokens: Option<u32>,
    /// How much the model may think before it answers, for models that do; the provider's default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default)]
    pub effort: Option<Effort>,
    /// How long one answer may take, `1s` to `1h`.
    #[schemars(default = "five_minutes")]
    pub timeout: HumanDuration,
    /// How long the model may be silent in the middle of an answer, `1s` to `1h`.
    #[schemars(default = "one_minute")]
    pub idle_timeout: HumanDuration,
}

/// How much a model may think before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// As little as it can.
    Minimal,
    /// Little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
}

fn five_minutes() -> HumanDuration {
    HumanDuration::from_secs(300)
}

fn one_minute() -> HumanDuration {
    HumanDuration::from_secs(60)
}

impl ModelSpec {
    /// A model by its name, with the defaults of everything else.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            fallbacks: Vec::new(),
            temperature: None,
            max_output_tokens: None,
            effort: None,
            timeout: five_minutes(),
            idle_timeout: one_minute(),
        }
    }
}

impl Default for ModelSpec {
    fn default() -> Self {
        Self::named("default")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelSettings {
    name: String,
    #[serde(default)]
    fallbacks: Vec<String>,
    temperature: Option<f64>,
    max_output_tokens: Option<u32>,
    effort: Option<Effort>,
    #[serde(default = "five_minutes")]
    timeout: HumanDuration,
    #[serde(default = "one_minute")]
    idle_timeout: HumanDuration,
}

impl<'de> Deserialize<'de> for ModelSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrSettings;

        impl<'de> Visitor<'de> for NameOrSettings {
            type Value = ModelSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a model's name, or a mapping with `name` and settings")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<ModelSpec, E> {
                Ok(ModelSpec::named(name))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ModelSpec, A::Error> {
                let settings = ModelSettings::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ModelSpec {
                    name: settings.name,
                    fallbacks: settings.fallbacks,
                    temperature: settings.temperature,
                    max_output_tokens: settings.max_output_tokens,
                    effort: settings.effort,
                    timeout: settings.timeout,
                    idle_timeout: settings.idle_timeout,
                })
            }
        }

        deserializer.deserialize_any(NameOrSettings)
    }
}

/// A tool that an agent may use, with what the operator narrows or sets. A plain string is the name alone.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, transform = name_or_settings)]
pub struct ToolSettings {
    /// The tool's name.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Overrides what repeating a call does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default)]
    pub effect: Option<Effect>,
    /// What to do when a `once` call's outcome is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default)]
    pub on_unknown: Option<UnknownPolicy>,
    /// For `http_request`: the hosts that it may call (`host`, `host:port` or `*.domain`), at most 64; none means every public host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, length(max = 64))]
    pub allow: Vec<String>,
    /// How long one call may take, `100ms` to `1h`; the tool's own default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default)]
    pub timeout: Option<HumanDuration>,
    /// When a person must allow a call before it is made; `never` when absent. An operator's stricter setting wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default)]
    pub approval: Option<Approval>,
    /// A call that costs more than this many US dollars needs a person's approval, 0 to 1,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, range(min = 0, max = 1_000_000))]
    pub approval_above_usd: Option<f64>,
    /// What one call costs in US dollars, 0 to 1,000,000; it is paid from the task's budgets.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, range(min = 0, max = 1_000_000))]
    pub cost_usd: Option<f64>,
    /// The argument that says what a call costs in US dollars, beside `cost_usd`, as a JSON Pointer such as `/amount`. A call
    /// where it is no number of 0 or more is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, length(min = 1, max = 200))]
    pub cost_argument: Option<String>,
    /// The tool that is asked whether a call with an unknown outcome happened, for `on_unknown: probe`. It is given those of
    /// the call's arguments that it takes, and `idempotency_key` and `tool` if it takes them, and answers `{"happened": true}` or false.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(default, length(min = 1, max = 128))]
    pub probe: Option<String>,
}

impl ToolSettings {
    /// A tool by its name, as it is.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            effect: None,
            on_unknown: None,
            allow: Vec::new(),
            timeout: None,
            approval: None,
            approval_above_usd: None,
            cost_usd: None,
            cost_argument: None,
            probe: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolForm {
    name: String,
    effect: Option<Effect>,
    on_unknown: Option<UnknownPolicy>,
    #[serde(default)]
    allow: Vec<String>,
    timeout: Option<HumanDuration>,
    approval: Option<Approval>,
    approval_above_usd: Option<f64>,
    cost_usd: Option<f64>,
    cost_argument: Option<String>,
    probe: Option<String>,
}

impl<'de> Deserialize<'de> for ToolSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrSettings;

        impl<'de> Visitor<'de> for NameOrSettings {
            type Value = ToolSettings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tool's name, or a mapping with `name` and settings")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<ToolSettings, E> {
                Ok(ToolSettings::named(name))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ToolSettings, A::Error> {
                let form = ToolForm::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ToolSettings {
                    name: form.name,
                    effect: form.effect,
                    on_unknown: form.on_unknown,
                    allow: form.allow,
                    timeout: form.timeout,
                    approval: form.approval,
                    approval_above_usd: form.approval_above_usd,
                    cost_usd: form.cost_usd,
                    cost_argument: form.cost_argument,
                    probe: form.probe,
                })
            }
        }

        deserializer.deserialize_any(NameOrSettings)
    }
}

/// Makes of a settings' schema one that takes a plain name, too.
fn name_or_settings(schema: &mut Schema) {
    let description = schema.remove("description");
    let settings = std::mem::take(schema);
    let mut either = json_schema!({ "anyOf": [{ "type": "string", "minLength": 1, "maxLength": 200 }, settings] });
    if let Some(description) = description {
        either.insert("description".to_owned(), description);
    }
    *schema = either;
}

/// What one task may do at most. Reaching a limit fails the task with `limit_exceeded`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSpec {
    /// Model calls, 1 to 10,000.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_steps: u32,
    /// Tool calls, 0 to 100,000.
    #[schemars(range(min = 0, max = 100_000))]
    pub max_tool_calls: u32,
    /// Tool calls of one answer, 1 to 128; the whole answer is refused when it asks for more.
    #[schemars(range(min = 1, max = 128))]
    pub max_parallel_tool_calls: u32,
    /// Tokens read and written, 1 to 1,000,000,000.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_tokens: u64,
    /// Time from the first start to the end, waiting included; `1s` to `366d`.
    pub wall_time: HumanDuration,
    /// Delegations below the first task, 0 to 16.
    #[schemars(range(min = 0, max = 16))]
    pub max_depth: u32,
    /// Sub-tasks of one task, 0 to 1,000.
    #[schemars(range(min = 0, max = 1_000))]
    pub max_children: u32,
    /// How often the same call with the same result may come before the loop detector stops the task, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
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

/// What work may cost at most. Every call is reserved before it is made, in the worst case, and settled after it, so that a
/// limit is never exceeded, not even by tasks that run at once or after a crash.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetSpec {
    /// Money in US dollars for one task and its sub-tasks: more than 0, at most 1,000,000. Needs models with prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub usd: Option<f64>,
    /// Tokens for one task and its sub-tasks, 1 to 1,000,000,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub tokens: Option<u64>,
    /// Model calls for one task and its sub-tasks, 1 to 1,000,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub model_calls: Option<u64>,
    /// Tool calls for one task and its sub-tasks, 0 to 1,000,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub tool_calls: Option<u64>,
    /// What all tasks of the agent may cost in an hour (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<AmountSpec>,
    /// What all tasks of the agent may cost in a day (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_day: Option<AmountSpec>,
    /// What happens when the budget does not allow the next call.
    pub on_limit: OnLimit,
}

/// The most that may be used within a time; what is absent is not limited.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AmountSpec {
    /// Money in US dollars: more than 0, at most 1,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub usd: Option<f64>,
    /// Tokens read and written, 1 to 1,000,000,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub tokens: Option<u64>,
    /// Model calls, 1 to 1,000,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub model_calls: Option<u64>,
    /// Tool calls, 0 to 1,000,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub tool_calls: Option<u64>,
}

impl AmountSpec {
    /// As an account's limit.
    pub fn limit(&self) -> AmountLimit {
        AmountLimit {
            usd: self.usd.map(Usd::from_dollars),
            tokens: self.tokens,
            model_calls: self.model_calls,
            tool_calls: self.tool_calls,
        }
    }
}

impl BudgetSpec {
    /// The limit of one task and its sub-tasks.
    pub fn limit(&self) -> AmountLimit {
        AmountLimit {
            usd: self.usd.map(Usd::from_dollars),
            tokens: self.tokens,
            model_calls: self.model_calls,
            tool_calls: self.tool_calls,
        }
    }
}

/// How many tasks may run, or start, at once. What is over a limit waits in the queue, in its order, and says so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueueSpec {
    /// Tasks that run at once, 1 to 1,000,000; a task that waits for something takes no place.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub concurrency: Option<u32>,
    /// The same among the tasks with one `limit_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub concurrency_per_key: Option<u32>,
    /// How many tasks may start within a sliding time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateSpec>,
    /// The same among the tasks with one `limit_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_key: Option<RateSpec>,
}

impl QueueSpec {
    /// Tells whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// So many starts within a sliding time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateSpec {
    /// How many, 1 to 1,000,000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub starts: u32,
    /// Within how long, `1s` to `7d`.
    pub per: HumanDuration,
}

/// What happens when an attempt fails in a way that another may mend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySpec {
    /// Attempts in all, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: u32,
    /// The pause after the first failure, `1ms` to `1h`; it doubles with each further one, with jitter.
    pub initial_backoff: HumanDuration,
    /// The longest pause, at least `initial_backoff`, at most `1d`.
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
    #[schemars(range(min = 0, max = 1_000))]
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
    /// A cron expression of five fields: minute, hour, day of the month, month, day of the week.
    #[schemars(length(min = 9, max = 256))]
    pub cron: String,
    /// An IANA time zone, such as `Europe/Berlin`.
    #[schemars(length(max = 64))]
    #[serde(default = "utc")]
    pub timezone: String,
    /// What each run is asked to do; at most 64 KiB.
    #[schemars(length(min = 1, max = 65_536))]
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
    #[schemars(length(min = 1, max = 16))]
    pub members: Vec<AgentName>,
    /// How often everyone may speak, 1 to 100.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 100))]
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
    /// After how long without work it hibernates, `1s` to `7d`.
    pub idle_timeout: HumanDuration,
    /// How often it is woken without a message, `1s` to `7d`; never when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tick: Option<HumanDuration>,
}

impl Default for ContinuousSpec {
    fn default() -> Self {
        Self { idle_timeout: HumanDuration::from_secs(300), tick: None }
    }
}
