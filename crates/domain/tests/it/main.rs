//! Agents' files as their writers meet them: what is taken, what is refused, and how it is said.

mod derived;
mod files;
mod operators;
mod properties;
mod yaml;

use domain::AgentSpec;
use domain::agent::{FileProblem, parse};

/// Reads a file that must be right.
fn good(text: &str) -> AgentSpec {
    parse("a.yml", text.as_bytes()).unwrap_or_else(|problems| panic!("{text}\n{}", shown(&problems)))
}

/// Reads a file that must be wrong, and shows its problems a line each.
fn bad(text: impl AsRef<[u8]>) -> String {
    let problems = parse("a.yml", text.as_ref()).expect_err("a wrong file");
    assert!(!problems.is_empty());
    shown(&problems)
}

fn shown(problems: &[FileProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
