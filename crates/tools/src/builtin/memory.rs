//! What `remember` and `recall` have in common: whose memory, and under which keys.

use serde_json::{Value, json};

use super::invalid;
use crate::{CallContext, MemoryScope, ToolError};

/// The longest key in bytes.
pub(super) const MAX_KEY: usize = 200;

/// The schema of `scope`.
pub(super) fn scope_schema() -> Value {
    json!({
        "type": "string",
        "enum": ["thread", "agent"],
        "description": "`thread`: the memory of this conversation alone. `agent`: shared by all tasks of this agent."
    })
}

/// The schema of a key.
pub(super) fn key_schema(description: &str) -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": MAX_KEY, "description": description })
}

/// Checks a key, or the beginning of one.
pub(super) fn check_key(key: &str) -> Result<(), ToolError> {
    if key.len() > MAX_KEY || key.trim() != key || key.chars().any(char::is_control) {
        return Err(invalid("a key must be text of at most 200 bytes without spaces around it and control characters"));
    }
    Ok(())
}

/// A task without a conversation has no memory of one.
pub(super) fn check_scope(context: &CallContext<'_>, scope: MemoryScope) -> Result<(), ToolError> {
    if scope == MemoryScope::Thread && context.task.thread.is_none() {
        return Err(invalid("this task belongs to no conversation; use the scope agent"));
    }
    Ok(())
}
