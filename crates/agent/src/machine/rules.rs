//! What one version of an agent lets its tasks do.

use std::collections::HashMap;

use domain::agent::LimitsSpec;
use domain::{AgentSpec, ToolSpec, UnknownPolicy};

use super::probe::may_probe;

/// The rules of one version of an agent, made once and shared by its tasks.
#[derive(Debug)]
pub struct Rules {
    pub(super) limits: LimitsSpec,
    pub(super) system: String,
    pub(super) thread_messages: usize,
    tools: HashMap<String, ToolSpec>,
    output: Option<jsonschema::Validator>,
}

/// How many problems of an answer the model is told at once.
const MAX_PROBLEMS: usize = 8;

impl Rules {
    /// Gathers the rules of an agent and its tools. An `output_schema` that does not compile is as none; agent files are
    /// checked for that when they are loaded.
    pub fn new(agent: &AgentSpec, tools: &[ToolSpec]) -> Self {
        let output = agent.output_schema.as_ref().and_then(|schema| domain::agent::compile_output_schema(schema).ok());
        let mut system = agent.instructions.trim().to_owned();
        if let (Some(schema), Some(_)) = (&agent.output_schema, &output) {
            if !system.is_empty() {
                system.push_str("\n\n");
            }
            system.push_str("Answer with one JSON value that matches this JSON Schema, and with nothing else:\n");
            system.push_str(&schema.to_string());
        }
        Self {
            limits: agent.limits.clone(),
            system,
            thread_messages: agent.memory.thread_messages as usize,
            tools: tools.iter().map(|tool| (tool.name.clone(), tool.clone())).collect(),
            output,
        }
    }

    /// Tells whether the agent's answers are JSON that matches a schema.
    pub fn structured(&self) -> bool {
        self.output.is_some()
    }

    /// Finds what is wrong with an answer; nothing for a good one.
    pub fn problems(&self, text: &str) -> Vec<String> {
        if text.trim().is_empty() {
            return vec!["the answer is empty".to_owned()];
        }
        let Some(validator) = &self.output else { return Vec::new() };
        let value: serde_json::Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) => return vec![format!("the answer is not JSON: {error}")],
        };
        validator
            .iter_errors(&value)
            .take(MAX_PROBLEMS)
            .map(|error| {
                let path = error.instance_path().to_string();
                format!("{}: {}", if path.is_empty() { "/" } else { &path }, error.masked())
            })
            .collect()
    }

    /// How long a task may take, waiting included.
    pub fn wall_time(&self) -> std::time::Duration {
        self.limits.wall_time.0
    }

    /// Tokens that a task may read and write.
    pub fn max_tokens(&self) -> u64 {
        self.limits.max_tokens
    }

    pub(super) fn tool(&self, name: &str) -> Option<&ToolSpec> {
        self.tools.get(name)
    }

    pub(super) fn unknown_policy(&self, tool: &str) -> UnknownPolicy {
        self.tool(tool).map(|tool| tool.on_unknown).unwrap_or_default()
    }

    /// The tool that can be asked about unknown outcomes of another; none when there is none that changes nothing.
    pub(super) fn probe_of(&self, tool: &str) -> Option<&ToolSpec> {
        let probe = self.tool(self.tool(tool)?.probe.as_deref()?)?;
        may_probe(probe).then_some(probe)
    }
}
