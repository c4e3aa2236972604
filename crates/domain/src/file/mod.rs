//! Files that people write: YAML that is checked by the JSON Schema of its type, with every problem told at once and where it stands.
//!
//! Agents' files and the operator's own (limits, models, tools) are all read here, so that all of them are equally strict.

pub(crate) mod problem;
pub(crate) mod secrets;
pub(crate) mod shape;
mod yaml;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use problem::FileProblem;
use problem::{Position, Problem};
pub(crate) use yaml::NOTHING;

/// The largest file that is read.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;

/// How many problems of one file are told; who has more has the wrong file.
const MAX_PROBLEMS: usize = 50;

/// A rule that a file breaks although its shape is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The field, such as `namespaces.default.queue.rate.per` or `routes[2].name`.
    pub path: String,
    /// What is wrong.
    pub reason: String,
    /// What would be right.
    pub hint: Option<String>,
}

impl Finding {
    /// A broken rule without a hint.
    pub fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into(), hint: None }
    }

    /// Adds what would be right.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Makes the JSON Schema of a file: what editors complete by and what the file is checked by.
///
/// Every field is described by its documentation; ranges that only a person can read (those of durations, and what
/// fields need each other) are in the descriptions.
pub fn schema<T: JsonSchema>(title: &str) -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    schema.insert("title".to_owned(), title.into());
    let mut schema: Value = schema.into();
    // Whether maps keep their order depends on what else is built; what is checked in must not.
    schema.sort_all_objects();
    schema
}

/// Reads a file by its schema. `file` is only for the problems.
///
/// All problems are told at once, ordered by their place; the list is never empty. A file that says nothing is an empty
/// mapping. Unknown fields and what looks like a secret are problems; durations and names are checked in their place.
pub fn parse<T: DeserializeOwned>(schema: &Value, file: &str, text: &[u8]) -> Result<T, Vec<FileProblem>> {
    parse_with(schema, file, text, |_| Vec::new())
}

/// Reads a file as `parse` does, and then looks for broken rules that no schema can say.
pub fn parse_with<T: DeserializeOwned>(
    schema: &Value,
    file: &str,
    text: &[u8],
    check: impl FnOnce(&T) -> Vec<Finding>,
) -> Result<T, Vec<FileProblem>> {
    let Read { mut value, positions, mut problems } = read(schema, text);
    if value.is_none() && matches!(problems.as_slice(), [only] if only.reason == NOTHING) {
        problems.clear();
        value = Some(Value::Object(serde_json::Map::new()));
    }
    let Some(value) = value else { return Err(report(file, problems)) };
    match serde_json::from_value::<T>(value) {
        Ok(value) => {
            let wrong: Vec<String> = problems.iter().map(|problem| problem.path.clone()).collect();
            let findings = check(&value).into_iter();
            let new = findings.filter(|finding| !wrong.iter().any(|path| within(path, &finding.path)));
            problems.extend(new.map(|Finding { path, reason, hint }| Problem {
                at: position_of(&positions, &path),
                path,
                reason,
                hint,
            }));
            if problems.is_empty() { Ok(value) } else { Err(report(file, problems)) }
        }
        Err(error) => {
            if problems.is_empty() {
                let at = Position { line: 1, column: 1 };
                problems.push(Problem { at, path: String::new(), reason: error.to_string(), hint: None });
            }
            Err(report(file, problems))
        }
    }
}

/// Finds where the fields at `paths` stand in a file: line and column, from 1; zeros for what cannot be found.
pub fn locate<'a>(schema: &Value, text: &[u8], paths: impl Iterator<Item = &'a str>) -> Vec<(u32, u32)> {
    let positions = yaml::read(text, MAX_FILE_BYTES).0.map(|tree| shape::shape(schema, &tree).positions);
    let find = |path: &str| positions.as_ref().map(|positions| position_of(positions, path)).unwrap_or_default();
    paths.map(find).map(|at| (at.line, at.column)).collect()
}

/// What a file says, as far as its shape is right, and what is wrong with it.
pub(crate) struct Read {
    pub(crate) value: Option<Value>,
    pub(crate) positions: BTreeMap<String, Position>,
    pub(crate) problems: Vec<Problem>,
}

/// Compares a file with its schema and looks for secrets in it.
pub(crate) fn read(schema: &Value, text: &[u8]) -> Read {
    let (tree, mut problems) = yaml::read(text, MAX_FILE_BYTES);
    let Some(tree) = tree else { return Read { value: None, positions: BTreeMap::new(), problems } };
    let shaped = shape::shape(schema, &tree);
    problems.extend(shaped.problems);
    problems.extend(secrets::find(text).into_iter().map(|found| Problem {
        path: path_at(&shaped.positions, found.at),
        at: found.at,
        reason: format!("this looks like {}", found.what),
        hint: Some("keep secrets out of files: set them in the environment of the platform".to_owned()),
    }));
    Read { value: shaped.value, positions: shaped.positions, problems }
}

/// Tells whether `path` is `field` or lies in it.
pub(crate) fn within(path: &str, field: &str) -> bool {
    path.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Finds where a field stands, or what it would stand in.
pub(crate) fn position_of(positions: &BTreeMap<String, Position>, path: &str) -> Position {
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

/// Puts problems in the order of their places, with the name of their file.
pub(crate) fn report(file: &str, mut problems: Vec<Problem>) -> Vec<FileProblem> {
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
