//! From the bytes of a file to an agent, or to everything that is wrong with it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::problem::{FileProblem, Position, Problem};
use super::{AgentSpec, json_schema, secrets, shape, validate, yaml};

/// The largest file that is read.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;

/// The tools that every platform has.
pub const BUILT_IN_TOOLS: [&str; 6] = ["ask", "delegate", "echo", "http_request", "now", "wait"];

/// How many problems of one file are told; who has more has the wrong file.
const MAX_PROBLEMS: usize = 50;

static SCHEMA: LazyLock<Value> = LazyLock::new(json_schema);

/// Reads an agent's file whose tools are the built-in ones. `file` is only for the problems.
pub fn parse(file: &str, text: &[u8]) -> Result<AgentSpec, Vec<FileProblem>> {
    parse_with(file, text, &BUILT_IN_TOOLS)
}

/// Reads an agent's file; `tools` are the names of the tools that there are.
///
/// All problems are told at once, ordered by their place; the list is never empty.
pub fn parse_with(file: &str, text: &[u8], tools: &[&str]) -> Result<AgentSpec, Vec<FileProblem>> {
    let (tree, mut problems) = yaml::read(text, MAX_FILE_BYTES);
    let mut spec = None;
    if let Some(tree) = tree {
        let shaped = shape::shape(&SCHEMA, &tree);
        problems.extend(shaped.problems);
        spec = shaped.value.and_then(|value| check(value, tools, &shaped.positions, &mut problems));
        problems.extend(secrets::find(text).into_iter().map(|found| Problem {
            path: path_at(&shaped.positions, found.at),
            at: found.at,
            reason: format!("this looks like {}", found.what),
            hint: Some("keep secrets out of agents' files: set them in the environment of the platform".to_owned()),
        }));
    }
    match spec {
        Some(spec) if problems.is_empty() => Ok(spec),
        _ => Err(report(file, problems)),
    }
}

/// Finds where the fields at `paths` stand in a file: line and column, from 1; zeros for what cannot be found.
pub fn locate<'a>(text: &[u8], paths: impl Iterator<Item = &'a str>) -> Vec<(u32, u32)> {
    let positions = yaml::read(text, MAX_FILE_BYTES).0.map(|tree| shape::shape(&SCHEMA, &tree).positions);
    let find = |path: &str| positions.as_ref().map(|positions| position_of(positions, path)).unwrap_or_default();
    paths.map(find).map(|at| (at.line, at.column)).collect()
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

/// Tells whether `path` is `field` or lies in it.
fn within(path: &str, field: &str) -> bool {
    path.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Finds where a field stands, or what it would stand in.
fn position_of(positions: &BTreeMap<String, Position>, path: &str) -> Position {
    let mut path = path;
    loop {
        if let Some(at) = positions.get(path) {
            return *at;
        }
        path = path.rfind(['.', '[']).map_or("", |end| &path[..end]);
        if path.is_empty() {
            return positions.get("").copied().unwrap_or(Position { line: 1, column: 1 });
        }
    }
}

/// Finds the field that begins last before a place.
fn path_at(positions: &BTreeMap<String, Position>, at: Position) -> String {
    let before = positions.iter().filter(|(_, position)| **position <= at);
    before.max_by_key(|(path, position)| (**position, path.len())).map(|(path, _)| path.clone()).unwrap_or_default()
}

fn report(file: &str, mut problems: Vec<Problem>) -> Vec<FileProblem> {
    problems.sort_by_key(|problem| problem.at);
    problems.dedup();
    let more = problems.len().saturating_sub(MAX_PROBLEMS);
    problems.truncate(MAX_PROBLEMS);
    let mut report: Vec<FileProblem> = problems
        .into_iter()
        .map(|problem| FileProblem {
            file: file.to_owned(),
            line: problem.at.line,
            column: problem.at.column,
            path: problem.path,
            reason: problem.reason,
            hint: problem.hint,
        })
        .collect();
    if more > 0 {
        report.push(FileProblem::of_file(file, format!("and {more} more problems")));
    }
    report
}
