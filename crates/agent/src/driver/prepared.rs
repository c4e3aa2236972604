//! What a driver needs of an agent's version, made once and shared by its tasks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use domain::{AgentName, AgentSpec, Namespace, Task, ToolSpec};
use state::StateError;
use tools::Toolbox;

use super::DriverParts;
use crate::machine::Rules;

/// An agent's version, ready to run.
pub(super) struct Prepared {
    pub(super) agent: AgentSpec,
    pub(super) toolbox: Toolbox,
    pub(super) tools: Vec<ToolSpec>,
    pub(super) rules: Rules,
    /// The most tokens that its tools and its output's schema are read as.
    pub(super) offered: u64,
}

/// An agent's version, and the generation of the tools that it was made with.
type Key = (Namespace, AgentName, u32, u64);

/// How many versions are kept ready.
const MAX_PREPARED: usize = 1_024;

#[derive(Default)]
pub(super) struct PreparedAgents {
    ready: Mutex<HashMap<Key, Arc<Prepared>>>,
}

impl PreparedAgents {
    /// Finds or makes it; `None` when the record has no such version.
    pub(super) async fn get(&self, parts: &DriverParts, task: &Task) -> Result<Option<Arc<Prepared>>, StateError> {
        // Taken before the tools are: a change in between makes it once more, never too seldom.
        let generation = parts.toolkit.generation();
        let key = (task.namespace.clone(), task.agent.clone(), task.agent_version, generation);
        if let Some(found) = self.ready.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Some(Arc::clone(found)));
        }
        let Some(version) = parts.agents.version(&task.namespace, &task.agent, task.agent_version).await? else {
            return Ok(None);
        };
        let agent = version.spec.clone();
        let toolbox = parts.toolkit.for_agent(&agent);
        let tools = toolbox.specs();
        let rules = Rules::new(&agent, &tools);
        let offered = offered(&agent, &tools);
        let prepared = Arc::new(Prepared { agent, toolbox, tools, rules, offered });
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.len() >= MAX_PREPARED {
            ready.clear();
        }
        ready.insert(key, Arc::clone(&prepared));
        Ok(Some(prepared))
    }
}

fn offered(agent: &AgentSpec, tools: &[ToolSpec]) -> u64 {
    let request = llm::ChatRequest {
        model: String::new(),
        messages: Vec::new(),
        tools: tools.to_vec(),
        output_schema: agent.output_schema.clone(),
        temperature: None,
        max_output_tokens: None,
        effort: None,
        timeout: std::time::Duration::ZERO,
        idle_timeout: std::time::Duration::ZERO,
    };
    llm::most_tokens(&request, None)
}
