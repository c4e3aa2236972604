//! Makes the reference of the agent's file from the types, so that it cannot fall behind them.

use std::fmt::Write;

use serde_json::Value;

use super::schema::json_schema;
use crate::file::shape::{choices_of, resolve, types_of};

const HEAD: &str = include_str!("reference/head.md");
const EXAMPLE: &str = include_str!("reference/example.yml");
const TEAM: &str = include_str!("reference/team.yml");
const CONTINUOUS: &str = include_str!("reference/continuous.yml");
const TAIL: &str = include_str!("reference/tail.md");

/// Writes the reference as Markdown.
pub fn reference() -> String {
    let schema = json_schema();
    let mut text = String::from(HEAD);
    for (title, example) in [("A complete example", EXAMPLE), ("A team", TEAM), ("A continuous agent", CONTINUOUS)] {
        _ = write!(text, "\n## {title}\n\n```yaml\n{example}```\n");
    }
    text.push_str("\n## Fields\n\n");
    table(&mut text, &schema, &schema);
    sections(&mut text, &schema, &schema, "");
    text.push_str(TAIL);
    text
}

/// Writes a section for each mapping among the fields of one, and for those in it.
fn sections(text: &mut String, root: &Value, object: &Value, above: &str) {
    let fields = object.get("properties").and_then(Value::as_object);
    for (name, field) in fields.into_iter().flatten() {
        let Some(object) = object_of(root, field) else { continue };
        let suffix = if types_of(resolve(root, field)).any(|kind| kind == "array") { "[]" } else { "" };
        let path = format!("{above}{name}{suffix}");
        _ = write!(text, "\n## `{path}`\n\n");
        if let Some(about) = description(root, field) {
            _ = write!(text, "{about}\n\n");
        }
        table(text, root, object);
        sections(text, root, object, &format!("{path}."));
    }
}

fn table(text: &mut String, root: &Value, object: &Value) {
    text.push_str("| field | type | default | limits | meaning |\n|---|---|---|---|---|\n");
    let required: Vec<&str> =
        object.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let mut fields: Vec<(&String, &Value)> =
        object.get("properties").and_then(Value::as_object).into_iter().flatten().collect();
    fields.sort_by_key(|(name, _)| (!required.contains(&name.as_str()), *name));
    for (name, field) in fields {
        let default = if required.contains(&name.as_str()) {
            "**required**".to_owned()
        } else {
            match field.get("default") {
                None | Some(Value::Null) => "none".to_owned(),
                Some(Value::Array(list)) if list.is_empty() => "none".to_owned(),
                Some(Value::String(text)) if text.is_empty() => "none".to_owned(),
                Some(Value::Object(_)) => "see below".to_owned(),
                Some(Value::String(text)) => format!("`{text}`"),
                Some(value) => format!("`{value}`"),
            }
        };
        let meaning = meaning(root, field);
        let (kind, limits) = (kind(root, field), limits(root, field));
        _ = writeln!(text, "| `{name}` | {kind} | {default} | {limits} | {meaning} |");
    }
}

fn kind(root: &Value, field: &Value) -> String {
    let target = resolve(root, field);
    if let Some(choices) = target.get("anyOf").and_then(Value::as_array) {
        let kinds: Vec<String> = choices
            .iter()
            .filter(|choice| choice.get("type").and_then(Value::as_str) != Some("null"))
            .map(|choice| kind(root, choice))
            .collect();
        return kinds.join(" or ");
    }
    if let Some(choices) = choices_of(target) {
        return choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(", ");
    }
    match types_of(target).find(|name| *name != "null") {
        Some("array") => format!("list of {}", target.get("items").map_or_else(String::new, |items| kind(root, items))),
        Some("object") => "mapping".to_owned(),
        Some("integer") => "whole number".to_owned(),
        Some("string") => match target.get("pattern").and_then(Value::as_str) {
            Some(pattern) if pattern.contains("ms") => "duration".to_owned(),
            Some(_) => "name".to_owned(),
            None => "text".to_owned(),
        },
        Some(other) => other.to_owned(),
        None => "JSON".to_owned(),
    }
}

fn limits(root: &Value, field: &Value) -> String {
    let target = resolve(root, field);
    let number = |name: &str| target.get(name).and_then(Value::as_u64).map(grouped);
    let range = match (number("minimum"), number("maximum")) {
        (Some(least), Some(most)) => Some(format!("{least} to {most}")),
        _ => None,
    };
    let items = number("maxItems").map(|most| format!("at most {most}"));
    let bytes = number("maxLength").map(|most| format!("at most {most} bytes"));
    range.or(items).or(bytes).unwrap_or_default()
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn meaning(root: &Value, field: &Value) -> String {
    let mut meaning = description(root, field).unwrap_or_default();
    for choice in resolve(root, field).get("oneOf").and_then(Value::as_array).into_iter().flatten() {
        let (name, about) = (choice.get("const"), choice.get("description"));
        if let (Some(Value::String(name)), Some(Value::String(about))) = (name, about) {
            _ = write!(meaning, " `{name}`: {about}");
        }
    }
    meaning.replace('\n', " ").replace('|', "\\|")
}

fn description(root: &Value, field: &Value) -> Option<String> {
    let own = field.get("description").or_else(|| resolve(root, field).get("description"));
    own.and_then(Value::as_str).map(str::to_owned)
}

/// The mapping that a field may be, alone, as an item or among others.
fn object_of<'a>(root: &'a Value, field: &'a Value) -> Option<&'a Value> {
    let target = resolve(root, field);
    if target.get("properties").is_some() {
        return Some(target);
    }
    if let Some(items) = target.get("items") {
        return object_of(root, items);
    }
    target.get("anyOf").and_then(Value::as_array)?.iter().find_map(|choice| object_of(root, choice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::parse;

    #[test]
    fn the_examples_are_sound() {
        for example in [EXAMPLE, TEAM, CONTINUOUS] {
            parse("example.yml", example.as_bytes()).expect("a sound example");
        }
    }

    #[test]
    fn the_examples_together_show_every_field() {
        let spec =
            |text: &str| serde_json::to_value(parse("example.yml", text.as_bytes()).expect("sound")).expect("JSON");
        let examples = [spec(EXAMPLE), spec(TEAM), spec(CONTINUOUS)];
        let schema = json_schema();
        for name in schema["properties"].as_object().expect("fields").keys() {
            assert!(examples.iter().any(|example| example.get(name).is_some()), "{name}");
        }
    }
}
