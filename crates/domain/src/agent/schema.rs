//! The JSON Schema of an agent's file: what editors complete by and what files are checked by.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::AgentSpec;

/// Makes the JSON Schema of an agent's file.
///
/// Every field is described by its documentation; ranges that only a person can read (those of durations, and what
/// fields need each other) are in the descriptions.
pub fn json_schema() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<AgentSpec>();
    schema.insert("title".to_owned(), "AgentRunner agent".into());
    let mut schema: Value = schema.into();
    // Whether maps keep their order depends on what else is built; what is checked in must not.
    schema.sort_all_objects();
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_a_sound_schema() {
        assert!(jsonschema::meta::is_valid(&json_schema()));
    }

    #[test]
    fn the_shortest_agent_matches_it() {
        let validator = jsonschema::validator_for(&json_schema()).expect("a sound schema");
        assert!(validator.is_valid(&serde_json::json!({ "name": "a" })));
        assert!(validator.is_valid(&serde_json::json!({ "name": "a", "model": "default", "tools": ["now"] })));
        assert!(!validator.is_valid(&serde_json::json!({ "name": "a", "modell": "default" })));
        assert!(!validator.is_valid(&serde_json::json!({ "name": "a", "limits": { "max_steps": 0 } })));
    }
}
