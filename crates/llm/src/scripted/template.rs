//! Texts with holes: `{{prompt}}`, `{{last_tool_result}}`, `{{turn}}`.
//!
//! Filled in one pass, so that what is put in is never taken for a hole itself.

use serde_json::Value;

/// What the holes are filled with.
pub(super) struct Filling<'a> {
    pub(super) prompt: &'a str,
    pub(super) last_tool_result: &'a str,
    pub(super) turn: usize,
}

/// A text, cut at its holes when the dialogue was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Template {
    Plain(String),
    Holes(Vec<Part>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    Text(String),
    Prompt,
    LastToolResult,
    Turn,
}

impl Template {
    /// Reads a text; the error names a hole that does not exist.
    pub(super) fn parse(text: String) -> Result<Self, String> {
        if !text.contains("{{") {
            return Ok(Self::Plain(text));
        }
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        while let Some((before, hole, after)) = next_hole(rest) {
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(match hole {
                "prompt" => Part::Prompt,
                "last_tool_result" => Part::LastToolResult,
                "turn" => Part::Turn,
                other => {
                    return Err(format!("{{{{{other}}}}} is unknown; there are prompt, last_tool_result and turn"));
                }
            });
            rest = after;
        }
        if parts.is_empty() {
            return Ok(Self::Plain(text));
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self::Holes(parts))
    }

    pub(super) fn fill(&self, filling: &Filling<'_>) -> String {
        match self {
            Self::Plain(text) => text.clone(),
            Self::Holes(parts) => parts
                .iter()
                .map(|part| match part {
                    Part::Text(text) => text.clone(),
                    Part::Prompt => filling.prompt.to_owned(),
                    Part::LastToolResult => filling.last_tool_result.to_owned(),
                    Part::Turn => filling.turn.to_string(),
                })
                .collect(),
        }
    }

    pub(super) fn has_holes(&self) -> bool {
        matches!(self, Self::Holes(_))
    }
}

/// The next `{{word}}`: what is before it, the word, and what follows. Other braces are plain text.
fn next_hole(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(found) = text[from..].find("{{") {
        let start = from + found;
        let inside = &text[start + 2..];
        if let Some((word, after)) = inside.split_once("}}") {
            let word = word.trim();
            if !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
                return Some((&text[..start], word, after));
            }
        }
        from = start + 1;
    }
    None
}

/// Tells whether a string anywhere in the value has a hole; the error names one that does not exist.
pub(super) fn holes_in(value: &Value) -> Result<bool, String> {
    match value {
        Value::String(text) => Ok(Template::parse(text.clone())?.has_holes()),
        Value::Array(items) => any(items.iter()),
        Value::Object(map) => any(map.values()),
        _ => Ok(false),
    }
}

fn any<'a>(values: impl Iterator<Item = &'a Value>) -> Result<bool, String> {
    let mut found = false;
    for value in values {
        found |= holes_in(value)?;
    }
    Ok(found)
}

/// Fills the strings of a value.
pub(super) fn fill_value(value: &Value, filling: &Filling<'_>) -> Value {
    match value {
        Value::String(text) => match Template::parse(text.clone()) {
            Ok(template) => Value::String(template.fill(filling)),
            Err(_) => value.clone(),
        },
        Value::Array(items) => items.iter().map(|item| fill_value(item, filling)).collect(),
        Value::Object(map) => map.iter().map(|(key, item)| (key.clone(), fill_value(item, filling))).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> String {
        let filling = Filling { prompt: "{{turn}}", last_tool_result: "42", turn: 3 };
        Template::parse(text.to_owned()).unwrap().fill(&filling)
    }

    #[test]
    fn holes_are_filled_once_and_other_braces_stay() {
        assert_eq!(fill("{{prompt}}: {{ last_tool_result }} in {{turn}}."), "{{turn}}: 42 in 3.");
        assert_eq!(fill("{{{turn}}}"), "{3}");
        assert_eq!(fill(r#"{"a":{"b":{}}} {{ }} {{"#), r#"{"a":{"b":{}}} {{ }} {{"#);
    }

    #[test]
    fn an_unknown_hole_is_refused() {
        assert!(Template::parse("{{promt}}".to_owned()).unwrap_err().contains("{{promt}} is unknown"));
    }
}
