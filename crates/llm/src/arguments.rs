//! The arguments of a tool call, read strictly: what a model says here is about to be done.
//!
//! A reader that mends what is broken (closes a bracket, takes the last of two equal keys, unpacks a string) invents
//! a wish that the model never uttered. So nothing is mended: the model is asked again.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Why the arguments of a tool call are not accepted. Says nothing of what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentsError {
    /// The text ends before the JSON does.
    #[error("the arguments of a tool call are cut off")]
    CutOff,
    /// Not one JSON document: a wrong character, or text after the end.
    #[error("the arguments of a tool call are not one JSON document (line {line}, column {column})")]
    NotJson {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
    /// An object has two values under one key.
    #[error("the arguments of a tool call name a key twice")]
    DuplicateKey,
    /// JSON, but no object; a string with JSON inside, for example.
    #[error("the arguments of a tool call are {found} instead of an object")]
    NotAnObject {
        /// What they are.
        found: &'static str,
    },
}

/// Reads arguments: exactly one JSON object, without a key twice at any depth, and nothing after it.
pub fn parse_arguments(text: &str) -> Result<Value, ArgumentsError> {
    let duplicate = Cell::new(false);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict(&duplicate).deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    match value {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(other) => Err(ArgumentsError::NotAnObject { found: kind(&other) }),
        Err(_) if duplicate.get() => Err(ArgumentsError::DuplicateKey),
        Err(error) if error.is_eof() => Err(ArgumentsError::CutOff),
        Err(error) => Err(ArgumentsError::NotJson { line: error.line(), column: error.column() }),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Reads a value like `serde_json` does, but raises the flag and stops at a key that comes twice.
#[derive(Clone, Copy)]
struct Strict<'a>(&'a Cell<bool>);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                self.0.set(true);
                return Err(A::Error::custom("a key occurs twice"));
            }
            let value = entries.next_value_seed(self)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_whole_object_is_accepted_as_it_is() {
        let text = r#" {"a": [1, -2, 3.5, null, true, "x", {"b": {}}], "ключ": "\u00e9"} "#;
        assert_eq!(parse_arguments(text), Ok(serde_json::from_str(text).unwrap()));
        assert_eq!(parse_arguments("{}"), Ok(json!({})));
    }

    #[test]
    fn whatever_is_not_one_whole_object_is_refused_with_its_reason() {
        let text = r#"{"path": "/tmp/é", "n": [1, {"a": "b"}]}"#;
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            assert_eq!(parse_arguments(&text[..end]), Err(ArgumentsError::CutOff), "{end}");
        }
        for text in [r#"{"a":1} x"#, r#"{"a":1}{"a":1}"#, "{'a':1}", "{\"a\":1,}", "NaN", r#"{"a":1e999}"#, "{a:1}"] {
            assert!(matches!(parse_arguments(text), Err(ArgumentsError::NotJson { .. })), "{text}");
        }
        for text in ["[]", "null", "7", r#""{\"a\":1}""#, "true"] {
            assert!(matches!(parse_arguments(text), Err(ArgumentsError::NotAnObject { .. })), "{text}");
        }
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":{"b":1,"\u0062":2}}"#, r#"{"a":[{"x":1,"x":2}]}"#] {
            assert_eq!(parse_arguments(text), Err(ArgumentsError::DuplicateKey), "{text}");
        }
        let deep = format!("{}1{}", "{\"a\":".repeat(5_000), "}".repeat(5_000));
        assert!(parse_arguments(&deep).is_err());
    }
}
