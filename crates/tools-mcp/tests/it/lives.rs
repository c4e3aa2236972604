//! Servers that fail, in every way that they find.

use std::time::Duration;

use serde_json::json;
use tools::servers::ServerState;

use crate::support::{DEADLINE, World};

/// Calls until the server answers again.
async fn until_back(world: &World) {
    let back = async {
        while world.call("fake.echo", json!({})).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, back).await.expect("back in time");
}

#[tokio::test]
async fn a_server_that_exits_in_a_call_is_told_of_and_started_again_after_a_pause() {
    let world = World::fake("normal", json!({})).await;
    for tool in ["fake.exit", "fake.killed"] {
        let lost = world.call(tool, json!({})).await.unwrap_err();
        assert_eq!(lost.code, "connection_lost");
        assert!(lost.message.contains("whether the call happened is not known"), "{lost}");
        let refused = world.call("fake.echo", json!({})).await.unwrap_err();
        assert_eq!(refused.code, "unavailable");
        assert_eq!(world.status("fake").await.state, ServerState::Unavailable);
        until_back(&world).await;
        assert_eq!(world.status("fake").await.state, ServerState::Ready);
    }
    assert_eq!(world.status("fake").await.starts, 3);
}

#[tokio::test]
async fn a_server_that_crashes_at_its_start_is_left_alone_and_its_last_words_are_kept_without_secrets() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "canary-4711\n").unwrap();
    let world = World::fake("crash", json!({ "env": { "FAKE_TOKEN": { "file": secret.path() } } })).await;
    let status = world.status("fake").await;
    let reason = status.reason.unwrap();
    assert_eq!(status.state, ServerState::Unavailable);
    assert!(reason.contains("exit code 3") && reason.contains("cannot find my configuration"), "{reason}");
    assert!(!reason.contains("canary") && reason.contains("***"), "{reason}");
    assert!(world.names().is_empty());
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_after_its_time() {
    let world = World::fake("silent", json!({ "startup_timeout": "300ms" })).await;
    assert!(world.status("fake").await.reason.unwrap().contains("did not begin within 300ms"));
}

#[tokio::test]
async fn output_without_end_or_sense_breaks_the_connection_and_costs_little_memory() {
    for (mode, why) in [
        ("endless-line", "16 MiB"),
        ("binary", "no message"),
        ("million-parts", "a million parts"),
        ("endless-pages", "512 tools"),
    ] {
        let world = World::fake(mode, json!({})).await;
        let reason = world.status("fake").await.reason.unwrap();
        assert!(reason.contains(why), "{mode}: {reason}");
    }
}

#[tokio::test]
async fn a_greeting_on_the_output_is_passed_over() {
    let world = World::fake("greeting", json!({})).await;
    assert_eq!(world.text("fake.echo").await, "{}");
}

#[tokio::test]
async fn floods_are_cut_and_the_server_comes_back() {
    let world = World::fake("normal", json!({})).await;
    for (tool, why) in
        [("fake.flood", "too many messages"), ("fake.huge_line", "16 MiB"), ("fake.stray", "answers what nobody asked")]
    {
        let lost = world.call(tool, json!({})).await.unwrap_err();
        assert!(lost.message.contains(why), "{tool}: {lost}");
        until_back(&world).await;
    }
}

#[tokio::test]
async fn a_server_that_answers_no_calls_is_started_again() {
    let world = World::fake("normal", json!({})).await;
    for _ in 0..5 {
        world.give_up_on("fake.hang").await;
    }
    until_back(&world).await;
    assert_eq!(world.status("fake").await.starts, 2);
}

#[tokio::test]
async fn a_server_that_closes_its_output_and_lives_on_is_ended() {
    let script = tempfile::NamedTempFile::with_suffix(".py").unwrap();
    let text = r#"
import json, os, sys, time
for line in sys.stdin:
    m = json.loads(line)
    if m.get("method") == "initialize":
        r = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "p", "version": "1"}}
    elif m.get("method") == "tools/list":
        r = {"tools": [{"name": "close", "inputSchema": {"type": "object"}}]}
    elif m.get("method") == "tools/call":
        os.close(1)
        time.sleep(600)
    elif "id" in m:
        print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "error": {"code": -32601, "message": "no"}}), flush=True)
        continue
    else:
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": r}), flush=True)
"#;
    std::fs::write(script.path(), text).unwrap();
    let server = json!({ "command": "python3", "args": [script.path()] });
    let world = World::new(&json!({ "servers": { "p": server } })).await;
    let lost = world.call("p.close", json!({})).await.unwrap_err();
    assert!(lost.message.contains("closed its output"), "{lost}");
    assert_eq!(world.call("p.close", json!({})).await.unwrap_err().code, "unavailable");
}

#[tokio::test]
async fn a_program_that_is_not_there_stops_nobody_else() {
    let world = World::new(&json!({ "servers": {
        "gone": { "command": "/no/such/program" },
        "fake": crate::support::fake("normal", json!({})),
    } }))
    .await;
    assert_eq!(world.text("fake.echo").await, "{}");
    assert!(world.status("gone").await.reason.unwrap().contains("no program /no/such/program"));
}
