//! Calls: what comes back, what never comes back, and what should not have been sent.

use domain::{Effect, Namespace};
use serde_json::{Value, json};
use tools::ToolSource as _;

use crate::support::World;

#[tokio::test]
async fn a_tool_is_called_by_its_server_and_name_and_answers() {
    let world = World::fake("normal", json!({})).await;
    assert!(world.names().contains(&"fake.echo".to_owned()));
    assert_eq!(world.call("fake.echo", json!({ "a": 1 })).await.unwrap(), json!("{\"a\":1}"));
    let status = world.status("fake").await;
    assert_eq!((status.transport.as_str(), status.protocol.as_deref()), ("stdio", Some("2025-11-25")));
}

#[tokio::test]
async fn older_revisions_are_spoken_too_and_unknown_ones_are_not() {
    for version in ["2025-06-18", "2025-03-26", "2024-11-05"] {
        let world = World::fake(&format!("version-{version}"), json!({})).await;
        assert_eq!(world.text("fake.echo").await, "{}");
        assert_eq!(world.status("fake").await.protocol.as_deref(), Some(version));
    }
    let world = World::fake("version-1999-01-01", json!({})).await;
    assert!(world.status("fake").await.reason.unwrap().contains("unknown revision"));
}

#[tokio::test]
async fn a_server_that_leaves_at_an_unknown_greeting_is_greeted_in_the_old_way() {
    let world = World::fake("closes-on-unknown", json!({})).await;
    assert_eq!(world.text("fake.echo").await, "{}");
}

#[tokio::test]
async fn the_calls_key_goes_along() {
    let world = World::fake("normal", json!({})).await;
    let meta: Value = serde_json::from_str(&world.text("fake.meta").await).unwrap();
    assert_eq!(meta[tools_mcp::IDEMPOTENCY_KEY], "key-1");
}

#[tokio::test]
async fn progress_is_told_without_what_steers_a_terminal() {
    let world = World::fake("normal", json!({})).await;
    assert_eq!(world.text("fake.progress").await, "done");
    let told = world.desk.progress.lock().unwrap().clone();
    assert!(!told.is_empty());
    assert!(told.iter().all(|(message, fraction)| message.starts_with("step ") && fraction.is_some()), "{told:?}");
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_cancelled_and_its_late_answer_is_dropped() {
    let world = World::fake("normal", json!({})).await;
    world.give_up_on("fake.hang").await;
    world.give_up_on("fake.late").await;
    let mut cancelled = Vec::new();
    for _ in 0..100 {
        cancelled = serde_json::from_str(&world.text("fake.cancelled").await).unwrap();
        if cancelled.len() == 2 {
            break;
        }
    }
    assert_eq!(cancelled.len(), 2, "{cancelled:?}");
    let _: Vec<Value> = cancelled;
    world.call("fake.sleep", json!({ "ms": 400 })).await.unwrap();
    assert_eq!(world.text("fake.echo").await, "{}");
    assert_eq!(world.status("fake").await.starts, 1);
}

#[tokio::test]
async fn answers_that_come_twice_or_to_other_questions_change_nothing() {
    let world = World::fake("normal", json!({})).await;
    assert_eq!(world.text("fake.twice").await, "first");
    assert_eq!(world.text("fake.wrong_id").await, "right");
    assert_eq!(world.text("fake.garbage").await, "after garbage");
    assert_eq!(world.text("fake.echo").await, "{}");
    assert_eq!(world.status("fake").await.starts, 1);
}

#[tokio::test]
async fn what_the_server_asks_for_is_denied() {
    let world = World::fake("normal", json!({})).await;
    for tool in ["fake.sampling", "fake.elicitation", "fake.roots"] {
        let answer: Value = serde_json::from_str(&world.text(tool).await).unwrap();
        assert_eq!(answer["error"]["code"], -32601, "{tool}: {answer}");
    }
}

#[tokio::test]
async fn what_steers_a_terminal_or_hides_is_taken_out_of_answers() {
    let world = World::fake("normal", json!({})).await;
    assert_eq!(world.text("fake.ansi").await, "redtxt");
    assert_eq!(world.call("fake.structured", json!({})).await.unwrap(), json!({ "n": 4, "s": "ab" }));
}

#[tokio::test]
async fn files_are_kept_with_the_task_and_links_are_told_and_not_followed() {
    let world = World::fake("normal", json!({})).await;
    let image = world.call("fake.image", json!({})).await.unwrap();
    assert_eq!(
        image,
        json!({ "result": "a picture", "files": [{ "artifact": "call-1-1.png", "media_type": "image/png", "size": 8 }] })
    );
    assert_eq!(world.desk.files.lock().unwrap()["call-1-1.png"].1.as_ref(), b"\x89PNG\r\n\x1a\n");
    let embedded = world.call("fake.embedded", json!({})).await.unwrap();
    assert_eq!(embedded["files"][0]["artifact"], "call-1-1.pdf");
    let broken = world.call("fake.broken_image", json!({})).await.unwrap();
    assert_eq!(
        broken["files"][0],
        json!({ "left_out": "it is not Base64", "media_type": "application/octet-stream", "size": 2 })
    );
    let links = world.call("fake.link", json!({})).await.unwrap();
    assert_eq!(links["links"][0]["uri"], "file:///etc/passwd");
    assert!(links.get("result").is_none());
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_cut_and_says_so() {
    let world = World::fake("normal", json!({ "max_output_bytes": 2_000 })).await;
    let text = world.text("fake.long").await;
    assert!(text.len() <= 2_000 && text.contains("[cut: the answer has 5000000 bytes"));
}

#[tokio::test]
async fn a_tool_that_fails_or_breaks_its_own_promise_is_an_error() {
    let world = World::fake("normal", json!({})).await;
    let failed = world.call("fake.fails", json!({})).await.unwrap_err();
    assert_eq!((failed.code, failed.message.as_str()), ("tool_error", "out of paper"));
    assert_eq!(world.call("fake.bad_structured", json!({})).await.unwrap_err().code, "invalid_answer");
}

#[tokio::test]
async fn resources_are_two_tools_where_the_operator_wants_them() {
    let world = World::fake("normal", json!({ "resources": true })).await;
    let listed = world.call("fake.list_resources", json!({})).await.unwrap();
    assert_eq!(listed["resources"][0]["uri"], "memo://1");
    let read = world.call("fake.read_resource", json!({ "uri": "memo://1" })).await.unwrap();
    assert_eq!(read, json!("remember the milk"));
    let without = World::fake("normal", json!({})).await;
    assert!(!without.names().contains(&"fake.list_resources".to_owned()));
}

#[tokio::test]
async fn the_operators_rules_for_a_tool_go_before_everything() {
    let tools = json!({ "echo": { "effect": "none", "approval": "always", "timeout": "5s", "cost_usd": 0.5 } });
    let world = World::fake("normal", json!({ "tools": tools, "deny": ["exit"], "timeout": "20s" })).await;
    let agent = serde_json::from_value(json!({ "name": "tester" })).unwrap();
    let spec = world.tools.find("fake.echo").unwrap().spec(&agent).unwrap();
    assert_eq!((spec.effect, spec.timeout.as_secs()), (Effect::None, 5));
    assert_eq!((spec.approval, spec.price.usd), (domain::Approval::Always, domain::Usd::from_dollars(0.5)));
    let other = world.tools.find("fake.pid").unwrap().spec(&agent).unwrap();
    assert_eq!((other.effect, other.timeout.as_secs()), (Effect::Once, 20));
    assert!(world.tools.find("fake.exit").is_none());
    let few = World::fake("normal", json!({ "allow": ["echo"] })).await;
    assert_eq!(few.names(), ["fake.echo"]);
}

#[tokio::test]
async fn each_namespace_has_its_own_instance() {
    let world = World::fake("normal", json!({})).await;
    let mut pids = Vec::new();
    for name in ["one", "two", "one"] {
        let namespace = Namespace::new(name).unwrap();
        pids.push(world.call_in(&namespace, "fake.pid", json!({})).await.unwrap());
    }
    assert_eq!(pids[0], pids[2]);
    assert_ne!(pids[0], pids[1]);
}
