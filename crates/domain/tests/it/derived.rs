//! What is derived from the types and checked in has not fallen behind them.

use std::path::Path;

fn checked_in(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn the_schema_that_is_checked_in_is_that_of_the_types() {
    let derived = serde_json::to_string_pretty(&domain::agent::json_schema()).expect("JSON") + "\n";
    let fresh = checked_in("schema/agent.schema.json") == derived;
    assert!(fresh, "schema/agent.schema.json is out of date: run `cargo run -p domain --example generate`");
}

#[test]
fn the_schema_of_limits_that_is_checked_in_is_that_of_the_types() {
    let derived = serde_json::to_string_pretty(&domain::PlatformLimits::json_schema()).expect("JSON") + "\n";
    let fresh = checked_in("schema/limits.schema.json") == derived;
    assert!(fresh, "schema/limits.schema.json is out of date: run `cargo run -p domain --example generate`");
}

#[test]
fn the_example_of_limits_is_sound_with_and_without_its_comments() {
    let text = checked_in("config/limits.yml");
    let none = domain::PlatformLimits::parse("limits.yml", text.as_bytes()).expect("sound");
    assert!(none.namespaces.is_empty());
    let from = text.find("# namespaces:").expect("an example");
    let example: String =
        text[from..].lines().map(|line| line.strip_prefix("# ").unwrap_or(line).to_owned() + "\n").collect();
    let limits = domain::PlatformLimits::parse("limits.yml", example.as_bytes());
    let limits = limits.unwrap_or_else(|problems| panic!("{}", super::shown(&problems)));
    assert_eq!(limits.of(&domain::Namespace::default()).queue.concurrency, Some(64));
}

#[test]
fn the_reference_that_is_checked_in_is_that_of_the_types() {
    let fresh = checked_in("docs/agent-file.md") == domain::agent::reference();
    assert!(fresh, "docs/agent-file.md is out of date: run `cargo run -p domain --example generate`");
}

#[test]
fn the_examples_in_the_agents_folder_are_sound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/agents");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("the folder of examples") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read(&path).expect("a file");
        let spec = domain::agent::parse(&path.to_string_lossy(), &text);
        let spec = spec.unwrap_or_else(|problems| panic!("{}", super::shown(&problems)));
        assert_eq!(path.file_stem().and_then(|stem| stem.to_str()), Some(spec.name.as_str()));
        seen += 1;
    }
    assert!(seen > 0);
}
