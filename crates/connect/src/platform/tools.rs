//! Tools of a process of its own.

use std::sync::Arc;

use ::tools::egress::{EgressOptions, HostPort};
use ::tools::{BuiltinOptions, Toolkit, builtin};
use domain::Clock;
use state::State;

use super::ToolSettings;
use crate::tools::ArrivingTools;

/// The built-in tools, and the servers that bring tools of their own; those work once [`ArrivingTools::run`] runs.
pub fn tools(settings: &ToolSettings, state: &Arc<dyn State>, clock: &Arc<dyn Clock>) -> (Toolkit, Arc<ArrivingTools>) {
    // Both were found sound when the settings were checked; what changed since then allows nothing.
    let allow_private = HostPort::parse_list(&settings.agent_egress_allow_private).unwrap_or_default();
    let file = settings.file().unwrap_or_default();
    let egress = EgressOptions { allow_private, ..EgressOptions::default() };
    let servers = ArrivingTools::new(file, &settings.tool_tokens_dir, state, clock, egress.clone());
    let mut toolkit = builtin(BuiltinOptions { egress });
    toolkit.add_source(servers.clone());
    (toolkit, servers)
}
