//! A tool as its server describes it, and what is believed of that.

use std::sync::Arc;

use rmcp::model::Tool;
use serde_json::{Map, Value, json};
use tools::schema;
use tools::servers::Pin;

use crate::{names, text};

/// What a server says of one of its tools.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Definition {
    /// Its name within the server.
    pub(crate) name: String,
    /// Digest of all of it.
    pub(crate) digest: String,
    /// All of it, as the server gave it.
    pub(crate) raw: Value,
}

impl Definition {
    /// Takes what a model or a person could be led by: everything but icons and metadata.
    pub(crate) fn of(tool: &Tool) -> Self {
        let raw = json!({
            "name": tool.name,
            "title": tool.title,
            "description": tool.description,
            "inputSchema": Value::Object(Map::clone(&tool.input_schema)),
            "outputSchema": tool.output_schema.as_ref().map(|schema| Value::Object(Map::clone(schema))),
            "annotations": tool.annotations,
        });
        Self { name: tool.name.to_string(), digest: digest(&raw), raw }
    }

    /// A definition that was accepted before.
    pub(crate) fn pinned(name: &str, pin: &Pin) -> Self {
        Self { name: name.to_owned(), digest: pin.digest.clone(), raw: pin.definition.clone() }
    }

    pub(crate) fn pin(&self) -> Pin {
        Pin { digest: self.digest.clone(), definition: self.raw.clone() }
    }

    /// Says why no agent may ever be shown this.
    pub(crate) fn refusal(&self) -> Option<String> {
        if !names::is_tool(&self.name) {
            return Some("its name is none: 1 to 64 letters, digits, _, - and .".to_owned());
        }
        if let Err(error) = schema::compile(&self.parameters()) {
            return Some(format!("the schema of its arguments is refused: {error}"));
        }
        let output = self.output_schema().map(|schema| schema::compile(&schema));
        output.and_then(Result::err).map(|error| format!("the schema of its result is refused: {error}"))
    }

    /// What a model is told, free of what a person would not see.
    pub(crate) fn description(&self) -> String {
        let described = text::description(self.text("description"));
        if described.trim().is_empty() { text::description(self.text("title")) } else { described }
    }

    /// What a person is shown, with what they would not see written out.
    pub(crate) fn for_review(&self) -> String {
        text::for_review(self.text("description"))
    }

    /// JSON Schema of the arguments, always of an object.
    pub(crate) fn parameters(&self) -> Value {
        let mut schema = self.raw.get("inputSchema").cloned().unwrap_or_else(|| json!({}));
        if let Some(fields) = schema.as_object_mut() {
            fields.entry("type").or_insert_with(|| "object".into());
            clean_descriptions(fields, 0);
        }
        schema
    }

    /// JSON Schema of structured results.
    pub(crate) fn output_schema(&self) -> Option<Value> {
        self.raw.get("outputSchema").filter(|schema| schema.is_object()).cloned()
    }

    pub(crate) fn claims_read_only(&self) -> bool {
        self.raw.pointer("/annotations/readOnlyHint").and_then(Value::as_bool).unwrap_or_default()
    }

    fn text(&self, field: &str) -> &str {
        self.raw.get(field).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Takes what is invisible out of the descriptions within a schema: a model reads them, too.
fn clean_descriptions(fields: &mut Map<String, Value>, depth: u32) {
    if depth > 64 {
        return;
    }
    for (key, value) in fields.iter_mut() {
        match value {
            Value::String(words) if matches!(key.as_str(), "description" | "title" | "$comment") => {
                *words = text::description(words);
            }
            Value::Object(inner) => clean_descriptions(inner, depth + 1),
            Value::Array(items) => {
                for inner in items.iter_mut().filter_map(Value::as_object_mut) {
                    clean_descriptions(inner, depth + 1);
                }
            }
            _ => {}
        }
    }
}

/// The definitions that a server gave at one time, by name.
pub(crate) type Listing = Arc<std::collections::BTreeMap<String, Definition>>;

/// Digest of a JSON value that does not depend on the order of fields.
fn digest(value: &Value) -> String {
    let mut sorted = value.clone();
    sorted.sort_all_objects();
    blake3::hash(sorted.to_string().as_bytes()).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(value: Value) -> Definition {
        Definition::of(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn the_order_of_fields_makes_no_difference_and_every_word_does() {
        let one =
            tool(json!({ "name": "a", "description": "x", "inputSchema": { "type": "object", "required": ["b"] } }));
        let same =
            tool(json!({ "inputSchema": { "required": ["b"], "type": "object" }, "description": "x", "name": "a" }));
        assert_eq!(one.digest, same.digest);
        for other in [
            json!({ "name": "a", "description": "x\u{200b}", "inputSchema": { "type": "object", "required": ["b"] } }),
            json!({ "name": "a", "description": "x", "inputSchema": { "type": "object", "required": ["b", "c"] } }),
            json!({ "name": "a", "description": "x", "title": "t", "inputSchema": { "type": "object", "required": ["b"] } }),
            json!({ "name": "a", "description": "x", "inputSchema": { "type": "object", "required": ["b"] }, "annotations": { "readOnlyHint": true } }),
        ] {
            assert_ne!(one.digest, tool(other).digest);
        }
    }

    #[test]
    fn hostile_names_and_schemas_are_refused_for_good() {
        for value in [
            json!({ "name": "аdd", "inputSchema": { "type": "object" } }),
            json!({ "name": "a b", "inputSchema": { "type": "object" } }),
            json!({ "name": "x".repeat(65), "inputSchema": { "type": "object" } }),
            json!({ "name": "a", "inputSchema": { "$ref": "http://127.0.0.1/x" } }),
            json!({ "name": "a", "inputSchema": { "properties": { "x": { "pattern": "(?=a)" } } } }),
            json!({ "name": "a", "inputSchema": { "type": "object" }, "outputSchema": { "$ref": "file:///etc/passwd" } }),
        ] {
            assert!(tool(value.clone()).refusal().is_some(), "{value}");
        }
        assert_eq!(tool(json!({ "name": "a.b-c_D", "inputSchema": {} })).refusal(), None);
    }

    #[test]
    fn descriptions_within_a_schema_are_cleaned_too() {
        let schema = json!({ "properties": { "description": { "type": "string", "description": "a\u{e0041}b" } } });
        let cleaned = tool(json!({ "name": "a", "inputSchema": schema })).parameters();
        assert_eq!(cleaned.pointer("/properties/description/description"), Some(&json!("ab")));
        assert_eq!(cleaned["type"], "object");
    }
}
