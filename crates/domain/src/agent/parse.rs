//! From the bytes of a file to an agent, or to everything that is wrong with it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::{AgentSpec, json_schema, validate};
use crate::file::problem::{FileProblem, Position, Problem};
use crate::file::{self, Read, position_of, within};

pub use crate::file::MAX_FILE_BYTES;

/// The tools that every platform has.
pub const BUILT_IN_TOOLS: [&str; 13] = [
    "ask",
    "delegate",
    "echo",
    "http_request",
    "list_agents",
    "list_artifacts",
    "now",
    "read_artifact",
    "recall",
    "remember",
    "send_message",
    "wait",
    "write_artifact",
];
/// The built-in tools that need agents to give work to.
pub(super) const DELEGATING_TOOLS: [&str; 3] = ["delegate", "list_agents", "send_message"];

static SCHEMA: LazyLock<Value> = LazyLock::new(json_schema);

/// Reads an agent's file whose tools are the built-in ones. `file` is only for the problems.
pub fn parse(file: &str, text: &[u8]) -> Result<AgentSpec, Vec<FileProblem>> {
    parse_with(file, text, &BUILT_IN_TOOLS)
}

/// Reads an agent's file whose tools are the built-in ones and those of declared servers, named `server.tool`.
pub fn parse_for(file: &str, text: &[u8], servers: &[String]) -> Result<AgentSpec, Vec<FileProblem>> {
    // Which tools a server has, only the server knows, and it may be away just now.
    let of_servers: Vec<String> = servers.iter().map(|server| format!("{server}.*")).collect();
    let tools: Vec<&str> = BUILT_IN_TOOLS.into_iter().chain(of_servers.iter().map(String::as_str)).collect();
    parse_with(file, text, &tools)
}

/// Reads an agent's file; `tools` are the names of the tools that there are; `server.*` stands for all tools of a server.
///
/// All problems are told at once, ordered by their place; the list is never empty.
pub fn parse_with(file: &str, text: &[u8], tools: &[&str]) -> Result<AgentSpec, Vec<FileProblem>> {
    let Read { value, positions, mut problems } = file::read(&SCHEMA, text);
    for problem in &mut problems {
        if problem.reason == file::NOTHING {
            problem.hint = Some("an agent needs at least a `name`".to_owned());
        }
    }
    let spec = value.and_then(|value| check(value, tools, &positions, &mut problems));
    match spec {
        Some(spec) if problems.is_empty() => Ok(spec),
        _ => Err(file::report(file, problems)),
    }
}

/// Finds where the fields at `paths` stand in a file: line and column, from 1; zeros for what cannot be found.
pub fn locate<'a>(text: &[u8], paths: impl Iterator<Item = &'a str>) -> Vec<(u32, u32)> {
    file::locate(&SCHEMA, text, paths)
}

/// Looks for what the shape alone does not tell, leaving alone what was already found wrong.
fn check(
    mut value: Value,
    tools: &[&str],
    positions: &BTreeMap<String, Position>,
    problems: &mut Vec<Problem>,
) -> Option<AgentSpec> {
    let fields = value.as_object_mut()?;
    if !fields.contains_key("name") {
        // It was reported as missing or wrong; the rest of the file is looked at all the same.
        fields.insert("name".to_owned(), "unnamed".into());
    }
    let spec: AgentSpec = match serde_json::from_value(value) {
        Ok(spec) => spec,
        Err(error) => {
            if problems.is_empty() {
                let at = Position { line: 1, column: 1 };
                problems.push(Problem { at, path: String::new(), reason: error.to_string(), hint: None });
            }
            return None;
        }
    };
    let wrong: Vec<String> = problems.iter().map(|problem| problem.path.clone()).collect();
    let is_wrong = |field: &str| wrong.iter().any(|path| within(path, field));
    for finding in validate::findings(&spec, tools) {
        if is_wrong(&finding.path) || finding.because_of.is_some_and(is_wrong) {
            continue;
        }
        let other = finding.because_of.and_then(|field| positions.get(field)).copied();
        let own = positions.get(&finding.path).copied();
        let at = own.or(other).unwrap_or_else(|| position_of(positions, &finding.path));
        problems.push(Problem { at, path: finding.path, reason: finding.reason, hint: finding.hint });
    }
    Some(spec)
}
