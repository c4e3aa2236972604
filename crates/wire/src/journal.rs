//! A task's journal as the API shows it: the domain's own steps.

use std::borrow::Cow;

use domain::Step;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

/// One finished step of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JournalStep(pub Step);

impl From<Step> for JournalStep {
    fn from(step: Step) -> Self {
        Self(step)
    }
}

impl PartialSchema for JournalStep {
    fn schema() -> RefOr<Schema> {
        crate::schema::of::<Step>(Some(json!({
            "seq": 1,
            "epoch": 1,
            "at": "2026-03-01T12:00:01Z",
            "type": "model",
            "model": "openai/gpt-5-mini",
            "text": "Three things stand out in this quarter.",
            "finish": "stop",
            "usage": { "input_tokens": 812, "output_tokens": 96 },
            "duration_ms": 1840
        })))
    }
}

impl ToSchema for JournalStep {
    fn name() -> Cow<'static, str> {
        "JournalStep".into()
    }
}
