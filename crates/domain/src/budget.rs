//! What work may cost, and what it did: money, tokens and calls, counted in accounts that several tasks may share.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Money, in billionths of a US dollar: exact for every price per million tokens. Sums saturate.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Usd(pub u64);

impl Usd {
    /// Billionths of a dollar in a dollar.
    pub const DOLLAR: u64 = 1_000_000_000;

    /// Rounds dollars up; nothing for what is negative or no number.
    pub fn from_dollars(dollars: f64) -> Self {
        let nanos = (dollars * Self::DOLLAR as f64).round();
        Self(if nanos.is_finite() && nanos > 0.0 { nanos as u64 } else { 0 })
    }

    /// As dollars.
    pub fn dollars(self) -> f64 {
        self.0 as f64 / Self::DOLLAR as f64
    }

    /// The sum, or the largest amount there is.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, or nothing.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Tells whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cents = self.0.is_multiple_of(Self::DOLLAR / 100);
        if cents { write!(f, "${:.2}", self.dollars()) } else { write!(f, "${:.6}", self.dollars()) }
    }
}

impl fmt::Debug for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", self.dollars())
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.dollars())
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_dollars(f64::deserialize(deserializer)?))
    }
}

impl JsonSchema for Usd {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Usd".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0, "description": "US dollars." })
    }
}

/// An amount of everything that a budget counts. Sums saturate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Amount {
    /// Money.
    pub usd: Usd,
    /// Tokens read and written.
    pub tokens: u64,
    /// Model calls.
    pub model_calls: u64,
    /// Tool calls.
    pub tool_calls: u64,
}

impl Amount {
    /// How much of one thing.
    pub fn of(&self, what: Dimension) -> u64 {
        match what {
            Dimension::Usd => self.usd.0,
            Dimension::Tokens => self.tokens,
            Dimension::ModelCalls => self.model_calls,
            Dimension::ToolCalls => self.tool_calls,
        }
    }

    /// The sum, each saturating.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            usd: self.usd.saturating_add(other.usd),
            tokens: self.tokens.saturating_add(other.tokens),
            model_calls: self.model_calls.saturating_add(other.model_calls),
            tool_calls: self.tool_calls.saturating_add(other.tool_calls),
        }
    }

    /// The difference, each at least nothing.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            usd: self.usd.saturating_sub(other.usd),
            tokens: self.tokens.saturating_sub(other.tokens),
            model_calls: self.model_calls.saturating_sub(other.model_calls),
            tool_calls: self.tool_calls.saturating_sub(other.tool_calls),
        }
    }
}

/// One of the things that a budget counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Money, in billionths of a US dollar.
    Usd,
    /// Tokens.
    Tokens,
    /// Model calls.
    ModelCalls,
    /// Tool calls.
    ToolCalls,
}

impl Dimension {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Usd, Self::Tokens, Self::ModelCalls, Self::ToolCalls];

    /// The name as it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usd => "usd",
            Self::Tokens => "tokens",
            Self::ModelCalls => "model_calls",
            Self::ToolCalls => "tool_calls",
        }
    }

    /// An amount of it in words: `$0.25`, `12000 tokens`.
    pub fn show(self, amount: u64) -> String {
        match self {
            Self::Usd => Usd(amount).to_string(),
            Self::Tokens => format!("{amount} tokens"),
            Self::ModelCalls => format!("{amount} model calls"),
            Self::ToolCalls => format!("{amount} tool calls"),
        }
    }
}

/// The most that an account may count; what is absent is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AmountLimit {
    /// Money in US dollars: more than 0, at most 1,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub usd: Option<Usd>,
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

impl AmountLimit {
    /// The limit of one thing.
    pub fn of(&self, what: Dimension) -> Option<u64> {
        match what {
            Dimension::Usd => self.usd.map(|usd| usd.0),
            Dimension::Tokens => self.tokens,
            Dimension::ModelCalls => self.model_calls,
            Dimension::ToolCalls => self.tool_calls,
        }
    }

    /// Tells whether it limits nothing.
    pub fn is_empty(&self) -> bool {
        Dimension::ALL.iter().all(|what| self.of(*what).is_none())
    }
}

/// What happens when a budget does not allow the next call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLimit {
    /// The task fails with `limit_exceeded`.
    #[default]
    Stop,
    /// The cheaper models among the fallbacks are asked instead; the task fails when none of them fits.
    Downgrade,
    /// A person is asked; the task waits.
    Ask,
}

/// For how long an account counts before it begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetWindow {
    /// For ever: the budget of one task and its sub-tasks.
    Task,
    /// From one full hour (UTC) to the next.
    Hour,
    /// From midnight to midnight (UTC).
    Day,
}

impl BudgetWindow {
    /// When the window began that a moment lies in; 1970 for one that never ends.
    pub fn begin(self, at: crate::Timestamp) -> crate::Timestamp {
        let seconds = match self {
            Self::Task => return crate::Timestamp::UNIX_EPOCH,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        };
        let begin = at.timestamp() - at.timestamp().rem_euclid(seconds);
        chrono::DateTime::from_timestamp(begin, 0).unwrap_or(crate::Timestamp::UNIX_EPOCH)
    }
}

/// An account that a task's calls are reserved in and settled with. A sub-task has all accounts of its parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetAccount {
    /// Which account, unique in its namespace: `task/ID`, `agent/NAME`, `namespace`. The window belongs to its identity.
    pub key: String,
    /// For how long it counts.
    pub window: BudgetWindow,
    /// The most that it may count.
    pub limit: AmountLimit,
    /// What happens when it does not allow the next call.
    pub on_limit: OnLimit,
}

/// How an account stands in one thing that it limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetLevel {
    /// The account.
    pub account: BudgetAccount,
    /// What is counted.
    pub what: Dimension,
    /// The limit, grants included.
    pub limit: u64,
    /// What is spent.
    pub spent: u64,
    /// What is reserved for calls under way.
    pub reserved: u64,
    /// What was asked for just now.
    pub asked: u64,
}

/// A limit on how many tasks run, or start, decided when a worker claims one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gate {
    /// What is counted together, unique in its namespace: `agent/NAME`, `agent/NAME/key/KEY`, `namespace`. The kind of the
    /// limit belongs to its identity.
    pub key: String,
    /// How many.
    pub limit: GateLimit,
}

/// How many tasks a gate lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum GateLimit {
    /// So many are held by workers at once; a waiting task is not.
    Running {
        /// How many, at least 1.
        max: u32,
    },
    /// So many first claims within a sliding time.
    Starts {
        /// How many, at least 1.
        max: u32,
        /// Within how many milliseconds.
        per_ms: u64,
    },
}

/// What a task may use beside its own work: given at its submission, for its whole life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// What its agent's limits per key count it under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_key: Option<String>,
    /// The limits that decide when it may run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
    /// The accounts that its calls are paid from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<BudgetAccount>,
}

impl Terms {
    /// Tells whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
