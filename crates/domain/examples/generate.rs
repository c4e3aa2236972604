//! Writes what is derived from the types of files: the JSON Schemas of agents and limits, and the reference of agents.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let schema = serde_json::to_string_pretty(&domain::agent::json_schema())? + "\n";
    std::fs::create_dir_all(root.join("schema"))?;
    std::fs::create_dir_all(root.join("docs"))?;
    std::fs::write(root.join("schema/agent.schema.json"), schema)?;
    let limits = serde_json::to_string_pretty(&domain::PlatformLimits::json_schema())? + "\n";
    std::fs::write(root.join("schema/limits.schema.json"), limits)?;
    std::fs::write(root.join("docs/agent-file.md"), domain::agent::reference())
}
