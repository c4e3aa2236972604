//! Calls that a person must allow, and what was decided about them.

use chrono::{DateTime, Utc};
use domain::{AgentName, TaskId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A decision about a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "decision": "approve",
    "digest": "6b1f0a35c2d94e7f",
    "arguments": { "amount": 20, "to": "ACME" },
    "by": "kim@example.com"
}))]
pub struct DecideApproval {
    /// Whether the call is made.
    pub decision: Decision,
    /// The digest of the call that was shown: a decision about anything else is refused.
    #[schema(min_length = 1, max_length = 256)]
    pub digest: String,
    /// Only with `approve`: the call is made with these arguments, an object of at most 256 KiB, instead of the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub arguments: Option<Value>,
    /// Why, at most 4 KiB; the model is told when the call was denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who decides, at most 256 bytes; kept in the journal.
    #[schema(min_length = 1, max_length = 256)]
    pub by: String,
}

/// What was decided about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It is made.
    Approve,
    /// It is not made, and the model is told.
    Deny,
}

/// Where a question for permission is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalStatus {
    /// It waits for a decision.
    Open,
    /// The call was allowed.
    Approved,
    /// The call was denied.
    Denied,
    /// Nobody decided in time: the call was denied.
    Expired,
    /// The task ended, or began anew, before anybody decided.
    Void,
}

impl ApprovalStatus {
    /// The name as it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Void => "void",
        }
    }
}

/// A call that a person must allow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "task": "0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10",
    "agent": "demo-payments",
    "call_id": "call_1",
    "status": "approved",
    "tool": "echo",
    "arguments": { "text": "pay 20 to ACME" },
    "digest": "6b1f0a35c2d94e7f",
    "reason": "every call of echo needs a person's approval",
    "asked_at": "2026-03-01T12:00:00Z",
    "by": "kim@example.com",
    "at": "2026-03-01T12:04:00Z"
}))]
pub struct ApprovalView {
    /// The task.
    #[schema(value_type = Uuid)]
    pub task: TaskId,
    /// Its agent.
    #[schema(value_type = String)]
    pub agent: AgentName,
    /// The call.
    pub call_id: String,
    /// Where the question is in its life.
    pub status: ApprovalStatus,
    /// The tool.
    pub tool: String,
    /// The very arguments that the model gave.
    #[schema(value_type = Object)]
    pub arguments: Value,
    /// Names this call with these arguments; say it back with the decision.
    pub digest: String,
    /// Why a person is asked.
    pub reason: String,
    /// When it was asked.
    pub asked_at: DateTime<Utc>,
    /// When it ends by itself, as a denial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// Who decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<DateTime<Utc>>,
    /// The arguments as the person edited them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub edited_arguments: Option<Value>,
    /// Why it was decided so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_reason: Option<String>,
}
