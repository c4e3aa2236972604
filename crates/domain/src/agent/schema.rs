//! The JSON Schema of an agent's file: what editors complete by and what files are checked by.

use serde_json::Value;

use super::AgentSpec;
use crate::file;

/// Makes the JSON Schema of an agent's file.
///
/// Every field is described by its documentation; ranges that only a person can read (those of durations, and what
/// fields need each other) are in the descriptions.
pub fn json_schema() -> Value {
    file::schema::<AgentSpec>("AgentRunner agent")
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
