//! Schemas that others wrote, made into validators without trust.
//!
//! A schema is a small program: it can name documents elsewhere, call itself for ever, or multiply its own work with
//! every level. So it is walked once before it is compiled, references followed, against a budget of steps and depth:
//! what passes is finite and small. Patterns run on an engine that takes linear time.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

/// The largest schema as JSON.
const MAX_BYTES: usize = 262_144;
/// The deepest nesting, references followed.
const MAX_DEPTH: u32 = 64;
/// How many values the walk may meet, references followed.
const MAX_VALUES: u32 = 20_000;
/// The longest pattern.
const MAX_PATTERN: usize = 1_024;

/// Keywords whose content is data, not schema.
const DATA: [&str; 4] = ["const", "default", "enum", "examples"];
/// Keywords whose content is schemas by a name of the author's choice.
const NAMED: [&str; 5] = ["$defs", "definitions", "dependentSchemas", "patternProperties", "properties"];
/// Keywords that refer in ways that only a running validation can follow.
const DYNAMIC: [&str; 4] = ["$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"];

/// Why a schema is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// It names something outside itself.
    #[error("remote_ref_forbidden: $ref may only point into the schema itself, as in #/$defs/name")]
    RemoteRef,
    /// It is too large, too deep, or repeats itself without end.
    #[error("schema_too_complex: {what}")]
    TooComplex {
        /// Which bound it breaks.
        what: &'static str,
    },
    /// It is not a schema.
    #[error("schema_invalid: {reason}")]
    Invalid {
        /// Why.
        reason: String,
    },
}

/// Compiles a schema. Never reads a file and never connects to anything.
pub fn compile(schema: &Value) -> Result<Validator, SchemaError> {
    Walk { root: schema, left: MAX_VALUES }.schema(schema, 0)?;
    // After the walk: writing a value as text follows it to any depth.
    if serde_json::to_string(schema).map_or(usize::MAX, |text| text.len()) > MAX_BYTES {
        return Err(SchemaError::TooComplex { what: "it must be at most 256 KiB" });
    }
    jsonschema::options().with_pattern_options(PatternOptions::regex()).build(schema).map_err(|error| {
        let reason = format!("{} at {}", error.masked(), error.instance_path());
        SchemaError::Invalid { reason: reason.chars().take(300).collect() }
    })
}

struct Walk<'a> {
    root: &'a Value,
    left: u32,
}

impl<'a> Walk<'a> {
    fn schema(&mut self, value: &'a Value, depth: u32) -> Result<(), SchemaError> {
        self.spend(depth)?;
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.schema(item, depth + 1)),
            Value::Object(members) => members.iter().try_for_each(|(key, member)| self.member(key, member, depth)),
            _ => Ok(()),
        }
    }

    fn member(&mut self, key: &str, value: &'a Value, depth: u32) -> Result<(), SchemaError> {
        match (key, value) {
            ("$ref", Value::String(reference)) => {
                let target = self.target(reference)?;
                self.schema(target, depth + 1)
            }
            // A base in the middle would give the references below it another meaning than the walk's.
            ("$id" | "id", Value::String(_)) if depth > 0 => Err(SchemaError::RemoteRef),
            ("pattern", Value::String(pattern)) => check_pattern(pattern),
            (key, Value::Object(members)) if NAMED.contains(&key) => {
                self.spend(depth + 1)?;
                members.iter().try_for_each(|(name, member)| {
                    if key == "patternProperties" {
                        check_pattern(name)?;
                    }
                    self.schema(member, depth + 1)
                })
            }
            (key, _) if DYNAMIC.contains(&key) => {
                Err(SchemaError::TooComplex { what: "dynamic references are not supported" })
            }
            (key, _) if DATA.contains(&key) => self.data(value, depth + 1),
            _ => self.schema(value, depth + 1),
        }
    }

    fn data(&mut self, value: &Value, depth: u32) -> Result<(), SchemaError> {
        self.spend(depth)?;
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.data(item, depth + 1)),
            Value::Object(members) => members.values().try_for_each(|item| self.data(item, depth + 1)),
            _ => Ok(()),
        }
    }

    fn target(&self, reference: &str) -> Result<&'a Value, SchemaError> {
        let pointer = reference.strip_prefix('#').filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
        let pointer = pointer.ok_or(SchemaError::RemoteRef)?;
        self.root
            .pointer(pointer)
            .ok_or_else(|| SchemaError::Invalid { reason: "a $ref points to nothing in the schema".to_owned() })
    }

    fn spend(&mut self, depth: u32) -> Result<(), SchemaError> {
        if depth > MAX_DEPTH {
            return Err(SchemaError::TooComplex { what: "it is nested too deeply, or refers to itself" });
        }
        self.left = self.left.checked_sub(1).ok_or(SchemaError::TooComplex { what: "it has too many parts" })?;
        Ok(())
    }
}

fn check_pattern(pattern: &str) -> Result<(), SchemaError> {
    if pattern.len() > MAX_PATTERN {
        return Err(SchemaError::TooComplex { what: "a pattern must be at most 1 KiB" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(schema: &Value) -> SchemaError {
        compile(schema).err().unwrap_or_else(|| panic!("accepted: {schema}"))
    }

    #[test]
    fn ordinary_schemas_work() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "$defs": { "name": { "type": "string", "pattern": "^[a-z]+$" } },
            "properties": { "a": { "$ref": "#/$defs/name" }, "default": { "type": "integer" }, "$ref": { "type": "string" } },
            "additionalProperties": false
        });
        let validator = compile(&schema).expect("ordinary");
        assert!(validator.is_valid(&json!({ "a": "x", "default": 1, "$ref": "y" })));
        assert!(!validator.is_valid(&json!({ "a": "X" })));
        assert!(!validator.is_valid(&json!({ "__proto__": {} })));
    }

    #[test]
    fn schemas_that_accept_everything_or_nothing_are_schemas() {
        assert!(compile(&json!(true)).expect("true").is_valid(&json!(1)));
        assert!(compile(&json!({})).expect("empty").is_valid(&json!(1)));
        assert!(!compile(&json!(false)).expect("false").is_valid(&json!(1)));
    }

    #[test]
    fn a_reference_to_elsewhere_is_refused_without_reading_it() {
        let directory = std::env::temp_dir().join("tools-schema-that-does-not-exist.json");
        for reference in [
            "http://127.0.0.1:9/schema.json",
            "https://example.com/schema.json#/$defs/a",
            "//example.com/schema.json",
            &format!("file://{}", directory.display()),
            "\\\\server\\share\\schema.json",
            "other.json",
            "urn:example:schema",
            "#anchor",
        ] {
            for schema in [
                json!({ "$ref": reference }),
                json!({ "properties": { "default": { "$ref": reference } } }),
                json!({ "anyOf": [{ "items": { "$ref": reference } }] }),
            ] {
                assert_eq!(refused(&schema), SchemaError::RemoteRef, "{schema}");
            }
        }
        assert_eq!(
            refused(&json!({ "items": { "$id": "http://127.0.0.1:9/", "$ref": "#/x" } })),
            SchemaError::RemoteRef
        );
    }

    #[test]
    fn the_compiler_itself_cannot_fetch() {
        for reference in ["http://127.0.0.1:9/schema.json", "file:///etc/hostname"] {
            let error = jsonschema::options().build(&json!({ "$ref": reference })).expect_err("no retriever");
            assert!(error.to_string().contains("feature"), "{error}");
        }
    }

    #[test]
    fn a_schema_that_refers_to_itself_or_is_too_deep_is_refused() {
        let mut deep = json!(true);
        for _ in 0..10_000 {
            let mut level = serde_json::Map::new();
            level.insert("allOf".to_owned(), Value::Array(vec![deep]));
            deep = Value::Object(level);
        }
        let doubling: serde_json::Map<String, Value> = (0..20)
            .map(|level: u32| {
                let next = json!({ "$ref": format!("#/$defs/{}", level + 1) });
                (level.to_string(), json!({ "anyOf": [next, next] }))
            })
            .chain([("20".to_owned(), json!({ "type": "string" }))])
            .collect();
        for schema in [
            json!({ "$ref": "#" }),
            json!({ "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } }, "$ref": "#/$defs/a" }),
            json!({ "$dynamicAnchor": "a", "items": { "$dynamicRef": "#a" } }),
            json!({ "$defs": doubling, "$ref": "#/$defs/0" }),
            json!({ "enum": (0..30_000).collect::<Vec<_>>() }),
            json!({ "const": "a".repeat(10_000_000) }),
            json!({ "pattern": "a".repeat(1_000_000) }),
            json!({ "pattern": "a".repeat(2_000) }),
            json!({ "patternProperties": { "a".repeat(2_000): true } }),
        ] {
            assert!(matches!(refused(&schema), SchemaError::TooComplex { .. }));
        }
        assert!(matches!(compile(&deep), Err(SchemaError::TooComplex { .. })));
        dismantle(deep);
    }

    /// Takes a deep value apart level by level: dropping it whole would overflow the stack.
    fn dismantle(mut value: Value) {
        while let Some(inner) = value.pointer_mut("/allOf/0").map(Value::take) {
            value = inner;
        }
    }

    #[test]
    fn a_pattern_takes_linear_time_and_cannot_look_around() {
        let validator = compile(&json!({ "pattern": "^(a+)+$" })).expect("linear");
        assert!(!validator.is_valid(&json!(format!("{}b", "a".repeat(50_000)))));
        for pattern in ["(?=a)", "(?<!a)b", "(a)\\1", "("] {
            assert!(matches!(refused(&json!({ "pattern": pattern })), SchemaError::Invalid { .. }), "{pattern}");
        }
    }

    #[test]
    fn what_is_no_schema_is_refused_with_a_short_reason() {
        for schema in [
            json!({ "type": "strng" }),
            json!({ "required": "a" }),
            json!({ "minLength": -1 }),
            json!({ "$ref": "#/$defs/missing" }),
            json!({ "$schema": "https://example.com/my-own-draft" }),
            json!("string"),
            json!({ "type": "x".repeat(100_000) }),
        ] {
            let text = refused(&schema).to_string();
            assert!(text.len() < 500, "{text}");
        }
    }

    #[test]
    fn odd_numbers_do_no_harm() {
        let schema = json!({ "multipleOf": 1e-300, "minLength": 1_000_000_000_000_000_000_u64 });
        let validator = compile(&schema).expect("odd");
        assert!(!validator.is_valid(&json!("short")));
        let _ = validator.is_valid(&json!(1e300));
    }
}
