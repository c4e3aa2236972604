//! Budgets: how they stand, and what a person grants beyond them.

use chrono::{DateTime, Utc};
use domain::{Amount, AmountLimit, BudgetWindow, Dimension, OnLimit, TaskId, Usd};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An amount of what budgets count; what is absent is not counted here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "usd": 0.25, "tokens": 12_000 }))]
pub struct AmountView {
    /// Money in US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub usd: Option<f64>,
    /// Tokens read and written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Model calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_calls: Option<u64>,
    /// Tool calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<u64>,
}

impl AmountView {
    /// Sets how much of one thing.
    pub fn set(&mut self, what: Dimension, amount: u64) {
        match what {
            Dimension::Usd => self.usd = Some(Usd(amount).dollars()),
            Dimension::Tokens => self.tokens = Some(amount),
            Dimension::ModelCalls => self.model_calls = Some(amount),
            Dimension::ToolCalls => self.tool_calls = Some(amount),
        }
    }

    /// As the domain counts; what is absent is nothing.
    pub fn amount(&self) -> Amount {
        Amount {
            usd: Usd::from_dollars(self.usd.unwrap_or_default()),
            tokens: self.tokens.unwrap_or_default(),
            model_calls: self.model_calls.unwrap_or_default(),
            tool_calls: self.tool_calls.unwrap_or_default(),
        }
    }
}

impl From<Amount> for AmountView {
    fn from(amount: Amount) -> Self {
        Self {
            usd: Some(amount.usd.dollars()),
            tokens: Some(amount.tokens),
            model_calls: Some(amount.model_calls),
            tool_calls: Some(amount.tool_calls),
        }
    }
}

impl From<AmountLimit> for AmountView {
    fn from(limit: AmountLimit) -> Self {
        Self {
            usd: limit.usd.map(Usd::dollars),
            tokens: limit.tokens,
            model_calls: limit.model_calls,
            tool_calls: limit.tool_calls,
        }
    }
}

/// How an account stands that a task's calls are paid from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "account": "agent/researcher",
    "window": "day",
    "on_limit": "ask",
    "limit": { "usd": 5.0 },
    "spent": { "usd": 4.1 },
    "reserved": { "usd": 0.2 }
}))]
pub struct BudgetView {
    /// Which account: `task/ID`, `agent/NAME` or `namespace`.
    pub account: String,
    /// For how long it counts: `task`, `hour` or `day`.
    #[schema(value_type = String)]
    pub window: BudgetWindow,
    /// What happens at the limit: `stop`, `downgrade` or `ask`.
    #[schema(value_type = String)]
    pub on_limit: OnLimit,
    /// The limits, grants included.
    pub limit: AmountView,
    /// What is spent.
    pub spent: AmountView,
    /// What is reserved for calls under way.
    pub reserved: AmountView,
}

/// How an account of the namespace stands in its current window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "account": "agent/researcher",
    "window": "day",
    "since": "2026-03-01T00:00:00Z",
    "spent": { "usd": 4.1, "tokens": 812_000, "model_calls": 214, "tool_calls": 96 },
    "reserved": { "usd": 0.2, "tokens": 12_000, "model_calls": 1, "tool_calls": 0 }
}))]
pub struct AccountView {
    /// Which account: `agent/NAME` or `namespace`.
    pub account: String,
    /// For how long it counts: `hour` or `day`.
    #[schema(value_type = String)]
    pub window: BudgetWindow,
    /// When its window began.
    pub since: DateTime<Utc>,
    /// What is spent in it.
    pub spent: AmountView,
    /// What is reserved for calls under way.
    pub reserved: AmountView,
}

/// A decision about a budget that does not allow the next call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "call_id": "budget-3", "grant": { "usd": 1.5 }, "by": "kim@example.com" }))]
pub struct DecideBudget {
    /// Names the question; `waiting_for` of the task shows it.
    pub call_id: String,
    /// What this task may use beyond the limit. Either this or `deny`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<AmountView>,
    /// True stops the task.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deny: bool,
    /// Who decides, at most 256 bytes; kept in the journal.
    #[schema(min_length = 1, max_length = 256)]
    pub by: String,
}

/// An account reached four fifths of a limit. A hint: it may be lost, and is not told again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "id": "0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10",
    "account": "agent/researcher",
    "window": "day",
    "what": "usd",
    "limit": "$5.00",
    "used": "$4.10"
}))]
pub struct BudgetEvent {
    /// The task whose call reached it.
    #[schema(value_type = Uuid)]
    pub id: TaskId,
    /// The account.
    pub account: String,
    /// For how long it counts.
    #[schema(value_type = String)]
    pub window: BudgetWindow,
    /// What is short: `usd`, `tokens`, `model_calls` or `tool_calls`.
    pub what: String,
    /// The limit in words, grants included.
    pub limit: String,
    /// What is spent and reserved, in words.
    pub used: String,
}
