//! The tools that come with the platform: none of them can do harm beyond what its limits say.

mod artifact;
mod ask;
mod clock;
mod delegate;
mod echo;
mod http_request;
mod list_agents;
mod list_artifacts;
mod memory;
mod read_artifact;
mod recall;
mod remember;
mod send_message;
mod wait;
mod write_artifact;

use std::sync::Arc;
use std::time::Duration;

use domain::ToolSpec;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::egress::{Egress, EgressOptions};
use crate::{ToolError, Toolkit};

/// What the operator sets for the built-in tools.
#[derive(Clone, Default)]
pub struct BuiltinOptions {
    /// Where `http_request` may go.
    pub egress: EgressOptions,
}

/// Gathers the built-in tools.
pub fn builtin(options: BuiltinOptions) -> Toolkit {
    let egress = Arc::new(Egress::new(options.egress));
    let mut toolkit = Toolkit::default();
    toolkit.add(ask::NAME, Arc::new(ask::Ask));
    toolkit.add(clock::NAME, Arc::new(clock::Now));
    toolkit.add(delegate::NAME, Arc::new(delegate::Delegate));
    toolkit.add(echo::NAME, Arc::new(echo::Echo));
    toolkit.add(http_request::NAME, Arc::new(http_request::HttpRequest::new(egress)));
    toolkit.add(list_agents::NAME, Arc::new(list_agents::ListAgents));
    toolkit.add(list_artifacts::NAME, Arc::new(list_artifacts::ListArtifacts));
    toolkit.add(read_artifact::NAME, Arc::new(read_artifact::ReadArtifact));
    toolkit.add(recall::NAME, Arc::new(recall::Recall));
    toolkit.add(remember::NAME, Arc::new(remember::Remember));
    toolkit.add(send_message::NAME, Arc::new(send_message::SendMessage));
    toolkit.add(wait::NAME, Arc::new(wait::Wait));
    toolkit.add(write_artifact::NAME, Arc::new(write_artifact::WriteArtifact));
    toolkit
}

/// The spec of a tool that answers at once and changes nothing outside.
fn local_spec(name: &str, description: impl Into<String>, parameters: Value) -> ToolSpec {
    ToolSpec::new(name, description, parameters, Duration::from_secs(10))
}

/// Reads arguments that the schema has let through.
fn read<T: DeserializeOwned>(arguments: Value) -> Result<T, ToolError> {
    serde_json::from_value(arguments).map_err(|_| invalid("the arguments do not match the tool's schema"))
}

fn invalid(message: impl Into<String>) -> ToolError {
    ToolError::new("invalid_arguments", message)
}

/// The size of a value as JSON.
fn json_size(value: &Value) -> usize {
    serde_json::to_string(value).map_or(usize::MAX, |text| text.len())
}

/// Converts a length of time that is already known to be small.
fn later(now: domain::Timestamp, by: Duration) -> domain::Timestamp {
    chrono::Duration::from_std(by).ok().and_then(|by| now.checked_add_signed(by)).unwrap_or(now)
}
