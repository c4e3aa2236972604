//! What is asked of tasks: to begin, to hear an answer, to begin again.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::{AgentName, HumanDuration, ThreadId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A new task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "agent": "researcher",
    "prompt": "What changed in the second quarter?",
    "data": { "report": "https://example.com/q2.json" },
    "images": [{ "url": "https://example.com/chart.png" }],
    "priority": 5,
    "deadline": "2026-03-01T18:00:00Z",
    "metadata": { "team": "finance" },
    "idempotency_key": "q2-report-2026-03-01"
}))]
pub struct SubmitTask {
    /// The agent that does the work.
    #[schema(value_type = String, pattern = "^[a-z0-9][a-z0-9._-]{0,62}$")]
    pub agent: AgentName,
    /// The request in words, at most 1 MiB. Either this or `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Further data for the agent, given to the model as JSON after the prompt; at most 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// Pictures for the model, by reference; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageBody>,
    /// The same as `prompt`, `data` and `images`, in one object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<InputBody>,
    /// 0 (last) to 9 (first); 5 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 9)]
    pub priority: Option<u8>,
    /// It does not start before this moment; a moment that has passed means at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<DateTime<Utc>>,
    /// The same as `run_at`, counted from now: `500ms`, `30s`, `15m`, `1h30m`, `7d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^([0-9]+(ms|s|m|h|d))+$", example = "15m")]
    pub delay: Option<HumanDuration>,
    /// It fails with `expired` when no worker has started it this long after it may start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^([0-9]+(ms|s|m|h|d))+$", example = "1h")]
    pub ttl: Option<HumanDuration>,
    /// It fails with `deadline_exceeded` when it has not ended by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<DateTime<Utc>>,
    /// The conversation that it belongs to; a new id begins one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub thread_id: Option<ThreadId>,
    /// For whom it works, at most 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What the limits per key of its agent and namespace count it under, such as a customer: 1 to 256 printable ASCII
    /// characters. Sub-tasks have their parent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 256)]
    pub limit_key: Option<String>,
    /// Labels: at most 32, keys and values of at most 256 bytes each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Submitting the same key again names the first task instead of making another. 1 to 255 printable ASCII
    /// characters; the header `Idempotency-Key` says the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 255)]
    pub idempotency_key: Option<String>,
}

impl SubmitTask {
    /// A task for `agent` with nothing but a prompt.
    pub fn new(agent: AgentName, prompt: impl Into<String>) -> Self {
        Self {
            agent,
            prompt: Some(prompt.into()),
            data: None,
            images: Vec::new(),
            input: None,
            priority: None,
            run_at: None,
            delay: None,
            ttl: None,
            deadline: None,
            thread_id: None,
            user: None,
            limit_key: None,
            metadata: BTreeMap::new(),
            idempotency_key: None,
        }
    }
}

/// What a task is asked to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "prompt": "Summarize the report", "data": { "report": "https://example.com/q2.json" } }))]
pub struct InputBody {
    /// The request in words, at most 1 MiB.
    pub prompt: String,
    /// Further data for the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// Pictures for the model, by reference; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageBody>,
}

impl InputBody {
    /// A request in words alone.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self { prompt: prompt.into(), data: None, images: Vec::new() }
    }
}

/// A picture, by reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "url": "https://example.com/chart.png", "media_type": "image/png" }))]
pub struct ImageBody {
    /// Where it is: `https://…`, or `artifact:NAME` for a file that is kept with the task.
    #[schema(max_length = 2048)]
    pub url: String,
    /// Its media type, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^image/[a-z0-9.+-]+$")]
    pub media_type: Option<String>,
}

/// A named value for a task that waits for it, or will.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "answer", "value": "yes", "from": "kim@example.com" }))]
pub struct SignalBody {
    /// The name that the task waits for; `waiting_for` of the task shows it.
    #[schema(min_length = 1, max_length = 255)]
    pub name: String,
    /// The value; null when absent.
    #[serde(default)]
    pub value: Value,
    /// Who sends it, at most 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// How to begin a failed or cancelled task again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "keep_journal": true }))]
pub struct RetryBody {
    /// True: it goes on after its last step. False: it starts anew from its input.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub keep_journal: bool,
}

impl Default for RetryBody {
    fn default() -> Self {
        Self { keep_journal: true }
    }
}

fn yes() -> bool {
    true
}
