//! Which tools there are, and which of them an agent may use.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::{AgentSpec, ToolSpec};
use serde_json::Value;

use crate::Tool;

/// All tools of this process, by name.
#[derive(Clone, Default)]
pub struct Toolkit {
    tools: BTreeMap<String, Arc<dyn Tool>>,
}

/// One tool that an agent may use.
#[derive(Clone)]
pub struct AllowedTool {
    /// Its spec for this agent, with the agent's settings applied.
    pub spec: ToolSpec,
    /// The tool.
    pub tool: Arc<dyn Tool>,
    validator: Arc<jsonschema::Validator>,
}

/// The tools that one agent may use.
#[derive(Clone, Default)]
pub struct Toolbox {
    tools: BTreeMap<String, AllowedTool>,
}

/// Why a call is refused before it begins; the model is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The agent has no such tool.
    #[error("there is no tool {name}; the tools are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The arguments do not match the tool's schema.
    #[error("the arguments of {name} are not valid: {problems}")]
    Arguments {
        /// The tool.
        name: String,
        /// What is wrong with them.
        problems: String,
    },
}

impl Toolkit {
    /// Adds a tool under a name; one of the same name is replaced.
    pub fn add(&mut self, name: impl Into<String>, tool: Arc<dyn Tool>) {
        self.tools.insert(name.into(), tool);
    }

    /// The names of all tools.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tools.keys().map(String::as_str)
    }

    /// Gathers what an agent may use. Tools that this process does not have are left out.
    pub fn for_agent(&self, agent: &AgentSpec) -> Toolbox {
        let mut tools = BTreeMap::new();
        for settings in &agent.tools {
            let Some(tool) = self.tools.get(&settings.name) else { continue };
            let Some(mut spec) = tool.spec(agent) else { continue };
            if let Some(effect) = settings.effect {
                spec.effect = effect;
            }
            if let Some(policy) = settings.on_unknown {
                spec.on_unknown = policy;
            }
            if let Some(timeout) = settings.timeout {
                spec.timeout = timeout.0;
            }
            let Ok(validator) = jsonschema::validator_for(&spec.parameters) else { continue };
            let allowed = AllowedTool { spec, tool: Arc::clone(tool), validator: Arc::new(validator) };
            tools.insert(settings.name.clone(), allowed);
        }
        Toolbox { tools }
    }
}

impl Toolbox {
    /// What a model is told of the tools, by name.
    pub fn specs(&self) -> Vec<ToolSpec> {
        self.tools.values().map(|tool| tool.spec.clone()).collect()
    }

    /// Finds a tool without looking at any arguments.
    pub fn get(&self, name: &str) -> Option<&AllowedTool> {
        self.tools.get(name)
    }

    /// Finds the tool of a call and checks the call's arguments.
    pub fn check(&self, name: &str, arguments: &Value) -> Result<&AllowedTool, Refusal> {
        let tool = self.tools.get(name).ok_or_else(|| Refusal::Unknown {
            name: name.chars().take(80).collect(),
            known: self.tools.keys().cloned().collect::<Vec<_>>().join(", "),
        })?;
        let problems: Vec<String> = tool
            .validator
            .iter_errors(arguments)
            .take(8)
            .map(|error| format!("{}: {}", error.instance_path(), error.masked()))
            .collect();
        if problems.is_empty() {
            Ok(tool)
        } else {
            Err(Refusal::Arguments { name: name.to_owned(), problems: problems.join("; ") })
        }
    }
}
