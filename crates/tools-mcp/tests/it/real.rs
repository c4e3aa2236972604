//! The servers that the protocol's makers publish, when they are installed (`scripts/setup` does it).

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::World;

/// An installed program; none where nobody ran the setup.
fn installed(name: &str) -> Option<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/mcp/node_modules/.bin").join(name);
    let path = path.canonicalize().ok()?;
    if path.is_file() {
        return path.to_str().map(str::to_owned);
    }
    None
}

async fn world(program: &str, settings: Value) -> Option<World> {
    let Some(path) = installed(program) else {
        assert!(std::env::var_os("CI").is_none(), "{program} is not installed: run scripts/setup");
        eprintln!("skipped: {program} is not installed; scripts/setup does it");
        return None;
    };
    let mut server = json!({ "command": path });
    if let (Some(server), Value::Object(settings)) = (server.as_object_mut(), settings) {
        server.extend(settings);
    }
    Some(World::new(&json!({ "servers": { "real": server } })).await)
}

#[tokio::test]
async fn server_everything_works() {
    let Some(world) = world("mcp-server-everything", json!({ "resources": true })).await else { return };
    assert_eq!(world.call("real.echo", json!({ "message": "hello" })).await.unwrap(), json!("Echo: hello"));
    let sum = world.call("real.get-sum", json!({ "a": 2, "b": 3 })).await.unwrap();
    assert_eq!(sum, json!("The sum of 2 and 3 is 5."));
    let structured = world.call("real.get-structured-content", json!({ "location": "New York" })).await.unwrap();
    assert!(structured["temperature"].is_number());
    let image = world.call("real.get-tiny-image", json!({})).await.unwrap();
    assert_eq!(image["files"][0]["media_type"], "image/png");
    assert_eq!(world.desk.files.lock().unwrap().len(), 1);
    let variables = world.call("real.get-env", json!({})).await.unwrap();
    let variables: Value = serde_json::from_str(variables.as_str().unwrap()).unwrap();
    assert_eq!(variables.as_object().unwrap().keys().collect::<Vec<_>>(), ["PATH"]);
    let steps = json!({ "duration": 0.2, "steps": 2 });
    world.call("real.trigger-long-running-operation", steps).await.unwrap();
    assert!(!world.desk.progress.lock().unwrap().is_empty());
    let resources = world.call("real.list_resources", json!({})).await.unwrap();
    let uri = resources["resources"][0]["uri"].clone();
    assert!(world.call("real.read_resource", json!({ "uri": uri })).await.unwrap().as_str().is_some());
    let refused = world.call("real.get-sum", json!({ "a": "two" })).await.unwrap_err();
    assert_eq!(refused.code, "refused");
}

#[tokio::test]
async fn server_filesystem_works_within_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let Some(world) = world("mcp-server-filesystem", json!({ "args": [path] })).await else { return };
    let file = path.join("a.txt");
    world.call("real.write_file", json!({ "path": file, "content": "written" })).await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "written");
    let read = world.call("real.read_text_file", json!({ "path": file })).await.unwrap();
    assert!(read.to_string().contains("written"));
    assert_eq!(
        world.call("real.read_text_file", json!({ "path": "/etc/passwd" })).await.unwrap_err().code,
        "tool_error"
    );
}

#[tokio::test]
async fn server_memory_remembers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory.jsonl");
    let env = json!({ "MEMORY_FILE_PATH": file.to_str().unwrap() });
    let Some(world) = world("mcp-server-memory", json!({ "env": env })).await else { return };
    let entity = json!({ "name": "Ada", "entityType": "person", "observations": ["writes programs"] });
    world.call("real.create_entities", json!({ "entities": [entity] })).await.unwrap();
    let found = world.call("real.search_nodes", json!({ "query": "Ada" })).await.unwrap();
    assert!(found.to_string().contains("writes programs"));
    assert!(file.is_file());
}
