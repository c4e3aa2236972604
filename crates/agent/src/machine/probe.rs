//! Asking another tool whether a call that a crash cut off had happened.

use domain::{Approval, Effect, ToolCall, ToolSpec};
use serde_json::{Map, Value};

/// Tells whether a tool may be used as a probe: asking must change nothing, and must need nobody.
pub(super) fn may_probe(spec: &ToolSpec) -> bool {
    spec.effect == Effect::None && spec.approval == Approval::Never && spec.price.approval_above.is_none()
}

/// What a probe is asked: those of the call's arguments that it takes, and the call's key and tool if it takes them.
pub fn probe_arguments(probe: &ToolSpec, call: &ToolCall, idempotency_key: &str) -> Value {
    let mut arguments = Map::new();
    if let Some(properties) = probe.parameters.get("properties").and_then(Value::as_object) {
        for name in properties.keys() {
            let value = match name.as_str() {
                "idempotency_key" => Some(Value::String(idempotency_key.to_owned())),
                "tool" => Some(Value::String(call.name.clone())),
                other => call.arguments.get(other).cloned(),
            };
            if let Some(value) = value {
                arguments.insert(name.clone(), value);
            }
        }
    }
    Value::Object(arguments)
}

/// Reads a probe's answer: an object whose `happened` is true or false; a tool that answers with text may write it as JSON.
pub fn probe_says(answer: &Value) -> Option<bool> {
    match answer {
        Value::Object(object) => object.get("happened").and_then(Value::as_bool),
        Value::String(text) => serde_json::from_str::<Map<String, Value>>(text).ok()?.get("happened")?.as_bool(),
        _ => None,
    }
}
