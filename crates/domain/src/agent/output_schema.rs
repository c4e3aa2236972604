//! What an agent's `output_schema` may be: a JSON Schema that can be checked in bounded time without looking elsewhere.
//!
//! A schema comes from a person's file but is run against whatever a model says, so everything that could make a check
//! slow or reach outside is refused when the file is read: references to elsewhere, recursion, look-around in patterns,
//! and alternatives that multiply.

use std::collections::HashMap;

use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Value};

use crate::file::problem::FieldPath;

const MAX_BYTES: usize = 64 * 1024;
const MAX_DEPTH: usize = 40;
/// How many schemas there may be after references are followed.
const MAX_SCHEMAS: u64 = 10_000;
const MAX_REFERENCES_IN_A_ROW: usize = 32;
const MAX_ENUM: usize = 1_000;
const MAX_PATTERN: usize = 1_000;
const MAX_PATTERN_PROGRAM: usize = 1024 * 1024;
const MAX_LENGTH: f64 = 1e9;

const DRAFTS: [&str; 5] = [
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema",
    "http://json-schema.org/draft-06/schema",
    "http://json-schema.org/draft-04/schema",
];

/// Keywords that hold a schema, a list of them, or a mapping of them.
const ONE: [&str; 13] = [
    "additionalItems",
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "extends",
];
const LISTS: [&str; 5] = ["allOf", "anyOf", "items", "oneOf", "prefixItems"];
const MAPS: [&str; 6] = ["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"];

/// One thing that is wrong with a schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{within}: {reason}")]
pub struct SchemaProblem {
    /// Where in the schema, such as `properties.total.minimum`; empty for the schema itself.
    pub within: String,
    /// What is wrong.
    pub reason: String,
    /// What would be right.
    pub hint: Option<String>,
}

impl SchemaProblem {
    /// The problem's place when the schema stands in the field `field`.
    pub(super) fn path(&self, field: &str) -> String {
        let dot = if self.within.is_empty() || self.within.starts_with('[') { "" } else { "." };
        format!("{field}{dot}{}", self.within)
    }
}

/// Compiles an agent's `output_schema`: patterns run in linear time, and nothing is fetched.
pub fn compile_output_schema(schema: &Value) -> Result<Validator, Vec<SchemaProblem>> {
    let problems = budget_problems(schema);
    if !problems.is_empty() {
        return Err(problems);
    }
    let patterns = PatternOptions::regex().size_limit(MAX_PATTERN_PROGRAM).dfa_size_limit(MAX_PATTERN_PROGRAM);
    jsonschema::options().with_pattern_options(patterns).offline().build(schema).map_err(|error| {
        let reason = format!("is not a valid JSON Schema: {}", error.masked_with("the value"));
        let hint = (error.kind().keyword() == "format" || error.schema_path().to_string().contains("pattern"))
            .then(|| "patterns are regular expressions without look-around and back-references".to_owned());
        vec![SchemaProblem { within: dotted(error.instance_path().as_str()), reason, hint }]
    })
}

/// Finds everything that is wrong with a schema.
pub(super) fn problems(schema: &Value) -> Vec<SchemaProblem> {
    compile_output_schema(schema).err().unwrap_or_default()
}

fn dotted(pointer: &str) -> String {
    let mut path = FieldPath::default();
    for part in pointer.split('/').skip(1) {
        match part.parse() {
            Ok(index) => path.item(index),
            Err(_) => path.field(&part.replace("~1", "/").replace("~0", "~")),
        }
    }
    path.as_str().to_owned()
}

fn budget_problems(schema: &Value) -> Vec<SchemaProblem> {
    let whole = |reason: String| vec![SchemaProblem { within: String::new(), reason, hint: None }];
    if !schema.is_object() && !schema.is_boolean() {
        return whole("must be a JSON Schema: a mapping, or true or false".to_owned());
    }
    if depth(schema) > MAX_DEPTH {
        return whole(format!("schema_budget_exceeded: nested deeper than {MAX_DEPTH} levels"));
    }
    let bytes = serde_json::to_vec(schema).map_or(usize::MAX, |json| json.len());
    if bytes > MAX_BYTES {
        return whole(format!("schema_budget_exceeded: larger than {} KiB", MAX_BYTES / 1024));
    }
    let mut checker = Checker { root: schema, path: FieldPath::default(), problems: Vec::new() };
    checker.schema(schema);
    if !checker.problems.is_empty() {
        return checker.problems;
    }
    let mut counter = Counter { root: schema, open: vec![String::new()], known: HashMap::new() };
    match counter.count(schema) {
        Ok(count) if count <= MAX_SCHEMAS => Vec::new(),
        Ok(_) => whole(format!("schema_budget_exceeded: more than {MAX_SCHEMAS} schemas when references are followed")),
        Err(reason) => whole(reason),
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Calls `visit` with every schema directly below `fields`; the path goes along.
fn below<'a>(fields: &'a Map<String, Value>, path: &mut FieldPath, visit: &mut dyn FnMut(&'a Value, &mut FieldPath)) {
    for (keyword, value) in fields {
        let keyword = keyword.as_str();
        path.field(keyword);
        match value {
            Value::Object(named) if MAPS.contains(&keyword) => {
                for (name, schema) in named {
                    path.field(name);
                    visit(schema, path);
                    path.up();
                }
            }
            Value::Array(list) if LISTS.contains(&keyword) => {
                for (index, schema) in list.iter().enumerate() {
                    path.item(index);
                    visit(schema, path);
                    path.up();
                }
            }
            Value::Object(_) | Value::Bool(_) if ONE.contains(&keyword) => visit(value, path),
            _ => {}
        }
        path.up();
    }
}

/// Looks at every keyword that could be slow or reach outside.
struct Checker<'a> {
    root: &'a Value,
    path: FieldPath,
    problems: Vec<SchemaProblem>,
}

impl<'a> Checker<'a> {
    fn schema(&mut self, schema: &'a Value) {
        let Some(fields) = schema.as_object() else { return };
        for (keyword, value) in fields {
            self.path.field(keyword);
            self.keyword(keyword, value, std::ptr::eq(schema, self.root));
            self.path.up();
        }
        let mut path = std::mem::take(&mut self.path);
        below(fields, &mut path, &mut |schema, path| {
            std::mem::swap(&mut self.path, path);
            self.schema(schema);
            std::mem::swap(&mut self.path, path);
        });
        self.path = path;
    }

    fn keyword(&mut self, keyword: &str, value: &'a Value, top: bool) {
        match keyword {
            "$ref" => self.reference(value),
            "$dynamicRef" | "$recursiveRef" | "$dynamicAnchor" | "$recursiveAnchor" | "$anchor" | "$vocabulary" => {
                self.wrong("is not supported", Some("use $ref with #/$defs/…"));
            }
            "$id" | "id" if !top && value.is_string() => self.wrong("is only allowed at the top", None),
            "$schema" => {
                let draft = value.as_str().unwrap_or_default().trim_end_matches('#');
                if !DRAFTS.contains(&draft) {
                    self.wrong(
                        "names no known draft",
                        Some("leave it out, or write https://json-schema.org/draft/2020-12/schema"),
                    );
                }
            }
            _ => {
                if let Some(reason) = excess(keyword, value) {
                    self.wrong(reason, None);
                }
            }
        }
    }

    fn reference(&mut self, value: &Value) {
        let target = value.as_str().unwrap_or_default();
        let local = target == "#" || target.starts_with("#/");
        if !local {
            self.wrong("remote_ref_forbidden: only references into this schema are followed", Some("use #/$defs/…"));
        } else if self.root.pointer(&unescape(&target[1..])).is_none() {
            self.wrong("refers to nothing", None);
        }
    }

    fn wrong(&mut self, reason: impl Into<String>, hint: Option<&str>) {
        let (within, hint) = (self.path.as_str().to_owned(), hint.map(str::to_owned));
        self.problems.push(SchemaProblem { within, reason: reason.into(), hint });
    }
}

/// Tells which bound a keyword's value is beyond.
fn excess(keyword: &str, value: &Value) -> Option<String> {
    let number = || value.as_f64().unwrap_or_default();
    let long_pattern = |pattern: &str| pattern.len() > MAX_PATTERN;
    let (beyond, reason) = match keyword {
        "pattern" => {
            (value.as_str().is_some_and(long_pattern), format!("pattern_unsupported: longer than {MAX_PATTERN} bytes"))
        }
        "patternProperties" => (
            value.as_object().is_some_and(|fields| fields.keys().any(|key| long_pattern(key))),
            format!("pattern_unsupported: longer than {MAX_PATTERN} bytes"),
        ),
        "enum" => (
            value.as_array().is_some_and(|list| list.len() > MAX_ENUM),
            format!("schema_budget_exceeded: more than {MAX_ENUM} values"),
        ),
        "multipleOf" => (value.is_number() && number() < 1e-9, "must be at least 0.000000001".to_owned()),
        "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" | "minContains"
        | "maxContains" => (number() > MAX_LENGTH, "must be at most 1,000,000,000".to_owned()),
        _ => return None,
    };
    beyond.then_some(reason)
}

/// A reference is a URL's fragment, so its pointer may be percent-encoded.
fn unescape(pointer: &str) -> String {
    pointer.replace("%24", "$").replace("%20", " ").replace("%25", "%")
}

/// Counts the schemas with all references followed.
struct Counter<'a> {
    root: &'a Value,
    open: Vec<String>,
    known: HashMap<String, u64>,
}

impl<'a> Counter<'a> {
    fn count(&mut self, schema: &'a Value) -> Result<u64, String> {
        let Some(fields) = schema.as_object() else { return Ok(1) };
        let mut schemas = Vec::new();
        below(fields, &mut FieldPath::default(), &mut |schema, _| schemas.push(schema));
        let mut total: u64 = 1;
        for schema in schemas {
            total = total.saturating_add(self.count(schema)?);
        }
        if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
            total = total.saturating_add(self.reference(unescape(target.trim_start_matches('#')))?);
        }
        Ok(total)
    }

    fn reference(&mut self, pointer: String) -> Result<u64, String> {
        if self.open.contains(&pointer) {
            return Err(format!("schema_budget_exceeded: #{pointer} refers to itself"));
        }
        if let Some(count) = self.known.get(&pointer) {
            return Ok(*count);
        }
        if self.open.len() > MAX_REFERENCES_IN_A_ROW {
            return Err(format!("schema_budget_exceeded: more than {MAX_REFERENCES_IN_A_ROW} references in a row"));
        }
        let Some(target) = self.root.pointer(&pointer) else { return Ok(0) };
        self.open.push(pointer.clone());
        let count = self.count(target)?;
        self.open.pop();
        self.known.insert(pointer, count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reason(schema: &Value) -> String {
        problems(schema).first().map(ToString::to_string).unwrap_or_default()
    }

    #[test]
    fn sound_schemas_are_taken() {
        for schema in [
            json!(true),
            json!(false),
            json!({}),
            json!({ "type": "object", "properties": { "pattern": { "type": "string" }, "$ref": { "type": "null" } } }),
            json!({ "$ref": "#/$defs/a", "$defs": { "a": { "type": "string", "pattern": "^(a+)+$" } } }),
            json!({ "$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "uniqueItems": true }),
            json!({ "properties": { "__proto__": { "default": "{{7*7}}" } } }),
        ] {
            assert_eq!(problems(&schema), [], "{schema}");
        }
    }

    #[test]
    fn references_to_elsewhere_are_refused() {
        for target in
            ["http://a/b", "https://a/b", "file:///etc/passwd", "\\\\host\\share", "other.json", "//a/b", "#a"]
        {
            assert!(reason(&json!({ "items": { "$ref": target } })).starts_with("items.$ref: remote_ref_forbidden"));
        }
        assert_eq!(reason(&json!({ "$ref": "#/$defs/a" })), "$ref: refers to nothing");
    }

    #[test]
    fn recursion_and_multiplication_are_refused() {
        assert!(reason(&json!({ "items": { "$ref": "#" } })).contains("refers to itself"));
        assert!(reason(&json!({ "$dynamicRef": "#a" })).contains("not supported"));
        let cycle =
            json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } });
        assert!(reason(&cycle).contains("refers to itself"));

        let mut definitions = serde_json::Map::new();
        definitions.insert("n0".to_owned(), json!({ "type": "string" }));
        for level in 1..=20 {
            let lower = json!({ "$ref": format!("#/$defs/n{}", level - 1) });
            definitions.insert(format!("n{level}"), json!({ "anyOf": [lower, lower] }));
        }
        let fan = json!({ "$ref": "#/$defs/n20", "$defs": definitions });
        assert!(reason(&fan).contains("schema_budget_exceeded"), "{}", reason(&fan));

        let mut deep = json!({});
        for _ in 0..60 {
            deep = json!({ "allOf": [deep] });
        }
        assert!(reason(&deep).contains("nested deeper"));
    }

    #[test]
    fn patterns_are_linear_or_refused() {
        let validator = compile_output_schema(&json!({ "pattern": "^(a+)+$" })).expect("sound");
        assert!(!validator.is_valid(&json!(format!("{}b", "a".repeat(50)))));
        for pattern in ["(?=a)b", "(?<!a)b", "(a)\\1", "(", "a{1000}{1000}{1000}"] {
            assert!(!problems(&json!({ "pattern": pattern })).is_empty(), "{pattern}");
            assert!(!problems(&json!({ "patternProperties": { pattern: true } })).is_empty(), "{pattern}");
        }
        assert!(reason(&json!({ "pattern": "a".repeat(2_000) })).contains("pattern_unsupported"));
    }

    #[test]
    fn extreme_values_are_refused() {
        let many: Vec<u32> = (0..2_000).collect();
        assert!(reason(&json!({ "enum": many })).contains("more than 1000 values"));
        assert!(reason(&json!({ "const": "x".repeat(100_000) })).contains("larger than 64 KiB"));
        assert!(reason(&json!({ "multipleOf": 1e-300 })).contains("at least"));
        assert!(reason(&json!({ "minLength": 1e18 })).contains("at most"));
    }

    #[test]
    fn invalid_schemas_are_refused_with_their_place() {
        for schema in [json!(null), json!("string"), json!([]), json!(3)] {
            assert!(reason(&schema).contains("must be a JSON Schema"));
        }
        assert!(reason(&json!({ "$schema": "https://example.com/mine" })).contains("no known draft"));
        let wrong = problems(&json!({ "properties": { "a": { "type": "strng" } } }));
        assert_eq!(wrong[0].path("output_schema"), "output_schema.properties.a.type");
        assert!(!problems(&json!({ "required": "a" })).is_empty());
    }
}
