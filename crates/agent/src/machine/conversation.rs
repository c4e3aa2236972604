//! What a model is shown of a task.

use domain::{ChildOutcome, Message, Resolution, TaskInput, TaskStatus, ThreadMessage, ToolOutcome};
use serde_json::{Value, json};

use super::Rules;

/// The messages before the first answer: instructions, what the thread said, and the request.
pub(super) fn opening(rules: &Rules, thread: &[ThreadMessage], input: &TaskInput) -> Vec<Message> {
    let mut messages = Vec::with_capacity(8);
    if !rules.system.is_empty() {
        messages.push(Message::System { text: rules.system.clone() });
    }
    let skipped = thread.len().saturating_sub(rules.thread_messages);
    for said in &thread[skipped..] {
        messages.push(if said.role == "assistant" {
            Message::assistant(said.text.clone())
        } else {
            Message::user(said.text.clone())
        });
    }
    messages.push(Message::User { text: request(input), images: input.images.clone() });
    messages
}

/// The request in words, with its data as JSON below.
pub fn request(input: &TaskInput) -> String {
    match &input.data {
        None => input.prompt.clone(),
        Some(data) => format!("{}\n\n```json\n{data}\n```", input.prompt),
    }
}

/// What the model is told about an answer that was not accepted.
pub(super) fn rejection(problems: &[String]) -> String {
    format!("{}\n- {}\nAnswer again.", llm::REPAIR_NOTE, problems.join("\n- "))
}

/// A tool's outcome in words for the model.
pub(super) fn outcome(outcome: &ToolOutcome) -> String {
    match outcome {
        ToolOutcome::Ok(value) => plain(value),
        ToolOutcome::Error(error) => format!("error: {error}"),
        ToolOutcome::Unknown => "error: nobody knows whether this call happened; do not repeat it".to_owned(),
    }
}

/// The end of a wait in words for the model.
pub(super) fn resolution(by: &Resolution) -> String {
    match by {
        Resolution::Child(child) => child_outcome(child),
        Resolution::Signal { value, .. } => plain(value),
        Resolution::Timer => "the time has come".to_owned(),
        Resolution::Expired { default: Some(value) } => {
            json!({ "answer": value, "note": "nobody answered in time; this is the default" }).to_string()
        }
        Resolution::Expired { default: None } => "error: nobody answered in time".to_owned(),
    }
}

fn child_outcome(child: &ChildOutcome) -> String {
    match (child.status, &child.output, &child.failure) {
        (TaskStatus::Succeeded, Some(output), _) => plain(output),
        (TaskStatus::Cancelled, ..) => "error: the sub-task was cancelled".to_owned(),
        (_, _, Some(failure)) => format!("error: the sub-task failed: {failure}"),
        _ => "error: the sub-task failed".to_owned(),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
