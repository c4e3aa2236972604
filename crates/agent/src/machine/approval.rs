//! A person's leave for one call: which call it is about, and what the decision means.
//!
//! Only a `Resolved` step of a wait for an approval is ever read as a decision; no word of a model or a tool comes here.

use domain::{Approval, ApprovalDecision, Resolution, TaskId, ToolCall, ToolSpec};
use serde::Deserialize as _;
use serde_json::Value;

/// What came of asking a person about a call.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Decided {
    /// It may be made, with other arguments if the person edited them.
    Approved(Option<Value>),
    /// It may not; the words say why.
    Refused(String),
}

/// Names a call with its very arguments, in this version of its agent: a decision about it fits no other call.
pub fn approval_digest(task: TaskId, agent_version: u32, call: &ToolCall) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    part(task.0.as_bytes());
    part(call.id.as_bytes());
    part(call.name.as_bytes());
    let mut arguments = String::new();
    canonical(&call.arguments, &mut arguments);
    part(arguments.as_bytes());
    part(&agent_version.to_be_bytes());
    hasher.finalize().to_hex().to_string()
}

/// Writes JSON without spaces and with the keys of its objects in order.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.keys().collect();
            keys.sort();
            out.push('{');
            for (n, key) in keys.into_iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                canonical(&map[key], out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

/// Why a person must allow a call; none when nobody must. `covered` tells that a person allowed the tool in this task before.
pub(super) fn reason(spec: &ToolSpec, arguments: &Value, covered: bool) -> Option<String> {
    let cost = spec.price.of(arguments);
    if let Some(above) = spec.price.approval_above
        && cost > above
    {
        return Some(format!("the call costs {cost}; above {above} a person must allow it"));
    }
    match spec.approval {
        Approval::Always => Some("every call of this tool needs a person's approval".to_owned()),
        Approval::Once if !covered => {
            Some("the first call of this tool in a task needs a person's approval".to_owned())
        }
        Approval::Once | Approval::Never => None,
    }
}

/// Reads how a wait for an approval ended. Whatever is not an approval of this very call is a refusal.
pub(super) fn read(digest: &str, by: &Resolution) -> Decided {
    let Resolution::Signal { value, .. } = by else { return Decided::Refused("nobody decided in time".to_owned()) };
    let Ok(decision) = ApprovalDecision::deserialize(value) else {
        return Decided::Refused("the decision could not be read".to_owned());
    };
    if decision.digest != digest {
        return Decided::Refused("the decision was about another call".to_owned());
    }
    if !decision.approved {
        return Decided::Refused(decision.reason.unwrap_or_else(|| "no reason was given".to_owned()));
    }
    match decision.arguments {
        Some(arguments) if !arguments.is_object() => {
            Decided::Refused("the arguments that a person gave are no object".to_owned())
        }
        arguments => Decided::Approved(arguments),
    }
}
