//! What a tool promises about itself.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Usd;

/// What repeating a call that a crash cut off would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing changes outside: the call is simply repeated.
    None,
    /// The call carries a key (`Idempotency-Key`) under which the other side applies it once: repeated with the same key.
    Keyed,
    /// The call must never be repeated on its own: a mark is journaled before it, and a mark without an outcome
    /// becomes the outcome `unknown`, for which the `UnknownPolicy` decides.
    Once,
}

/// What to do when a `once` call's outcome is unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownPolicy {
    /// Ask a person: the task waits for the signal `outcome_unknown`.
    #[default]
    Ask,
    /// Fail the task.
    Fail,
    /// Call again; the operator accepts a possible repetition.
    Retry,
    /// Ask another tool, `probe`, whether the call happened; a person when it does not know.
    Probe,
}

/// When a person must allow a call before it is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// Never.
    #[default]
    Never,
    /// For the first call of the tool in a task.
    Once,
    /// For every call.
    Always,
}

/// What a call costs, and from what cost on a person must allow it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolPrice {
    /// What each call costs.
    pub usd: Usd,
    /// JSON Pointer to the argument that says what the call costs in US dollars, beside `usd`.
    pub argument: Option<String>,
    /// A call that costs more needs a person's approval.
    pub approval_above: Option<Usd>,
}

impl ToolPrice {
    /// What a call with these arguments costs. An argument that is no price counts as nothing; see `is_named`.
    pub fn of(&self, arguments: &Value) -> Usd {
        self.usd.saturating_add(self.named(arguments).map(Usd::from_dollars).unwrap_or_default())
    }

    /// Tells whether the arguments say what the call costs, where they must: as a number, nothing or more.
    pub fn is_named(&self, arguments: &Value) -> bool {
        self.argument.is_none() || self.named(arguments).is_some()
    }

    fn named(&self, arguments: &Value) -> Option<f64> {
        let dollars = arguments.pointer(self.argument.as_deref()?)?.as_f64()?;
        (dollars.is_finite() && dollars >= 0.0).then_some(dollars)
    }
}

/// What a model and the agent loop know of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// The name that a model calls it by.
    pub name: String,
    /// What it does, in words for a model.
    pub description: String,
    /// JSON Schema of its arguments; always of an object.
    pub parameters: Value,
    /// What repeating it does.
    pub effect: Effect,
    /// What to do about an unknown outcome; matters for `Effect::Once` alone.
    pub on_unknown: UnknownPolicy,
    /// How long one call may take.
    pub timeout: Duration,
    /// When a person must allow a call.
    pub approval: Approval,
    /// What a call costs.
    pub price: ToolPrice,
    /// The tool that is asked about an unknown outcome; matters for `UnknownPolicy::Probe` alone.
    pub probe: Option<String>,
}

impl ToolSpec {
    /// A tool that may be repeated, costs nothing and needs nobody's approval.
    pub fn new(name: impl Into<String>, description: impl Into<String>, parameters: Value, timeout: Duration) -> Self {
        Self {
            name: name.into(),
            description: description.into(),
            parameters,
            effect: Effect::None,
            on_unknown: UnknownPolicy::default(),
            timeout,
            approval: Approval::default(),
            price: ToolPrice::default(),
            probe: None,
        }
    }
}
