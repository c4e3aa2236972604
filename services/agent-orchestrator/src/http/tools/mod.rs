//! Servers that bring tools: what they are, and which of their words are accepted.

pub(crate) mod approve;
pub(crate) mod list;

use common::problem::{Kind, Problem};
use serde::Serialize;
use tools::servers::{ApproveError, ServerStatus};
use wire::{ToolServerView, ToolView};

fn view(server: ServerStatus) -> ToolServerView {
    let tools = server.tools.into_iter().map(|tool| ToolView {
        name: tool.name,
        state: word(&tool.state),
        reason: tool.reason,
        description: tool.description,
        accepted_description: tool.accepted_description,
        effect: word(&tool.effect),
        approval: word(&tool.approval),
        claims_read_only: tool.claims_read_only,
        parameters: tool.parameters,
    });
    ToolServerView {
        name: server.name,
        transport: server.transport,
        target: server.target,
        state: word(&server.state),
        reason: server.reason,
        protocol: server.protocol,
        starts: server.starts,
        tools: tools.collect(),
    }
}

/// A choice as it is written in JSON.
fn word(choice: &impl Serialize) -> String {
    serde_json::to_value(choice).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn problem(error: &ApproveError) -> Problem {
    let kind = match error {
        ApproveError::UnknownServer { .. } | ApproveError::UnknownTool { .. } => Kind::UnknownTool,
        ApproveError::Unavailable { .. } | ApproveError::Elsewhere { .. } | ApproveError::Pins(_) => Kind::Unavailable,
    };
    Problem::new(kind).detail(error.to_string())
}
