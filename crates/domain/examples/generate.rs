//! Writes what is derived from the types of an agent's file: its JSON Schema and its reference.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let schema = serde_json::to_string_pretty(&domain::agent::json_schema())? + "\n";
    std::fs::create_dir_all(root.join("schema"))?;
    std::fs::create_dir_all(root.join("docs"))?;
    std::fs::write(root.join("schema/agent.schema.json"), schema)?;
    std::fs::write(root.join("docs/agent-file.md"), domain::agent::reference())
}
