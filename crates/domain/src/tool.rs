//! What a tool promises about itself.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
}
