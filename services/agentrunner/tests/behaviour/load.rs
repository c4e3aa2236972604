//! Many tasks.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use testkit::effect_sink::EffectSink;

use crate::house::{House, PATIENCE, Plan};

/// Sizes are those of the promise; a slower machine may set smaller ones.
fn size(variable: &str, promised: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(promised)
}

/// Submits so many tasks, so many at a time, and returns their ids.
async fn submit_all(house: &House, count: usize, at_once: usize, body: impl Fn(usize) -> Value) -> BTreeSet<String> {
    let bodies: Vec<Value> = (0..count).map(body).collect();
    let ids: Vec<String> =
        stream::iter(&bodies).map(|body| house.submit(body)).buffer_unordered(at_once).collect().await;
    let distinct: BTreeSet<String> = ids.into_iter().collect();
    assert_eq!(distinct.len(), count, "every task has an id of its own");
    distinct
}

fn ids(list: &[Value]) -> Vec<String> {
    list.iter().map(|task| task["id"].as_str().expect("an id").to_owned()).collect()
}

/// Waits until so many tasks have succeeded, as long as some do.
async fn until_succeeded(house: &House, count: usize) {
    let mut last = 0;
    let mut deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let now = house.count("succeeded").await;
        if now >= count as u64 {
            return;
        }
        if now > last {
            (last, deadline) = (now, tokio::time::Instant::now() + PATIENCE);
        }
        assert!(tokio::time::Instant::now() < deadline, "{now} of {count} tasks ended: {}", house.log());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tasks_that_are_submitted_at_once_end_exactly_once() {
    let count = size("BEHAVIOUR_AT_ONCE", 1_000);
    let sink = EffectSink::start(None).await.expect("the sink starts");
    let house = House::new(Plan {
        agents: &[("caller", "name: caller\nmodel: scripted/caller\ntools: [http_request]\n")],
        dialogues: &[(
            "caller",
            "turns:\n  - tool_calls:\n      - {name: http_request, arguments: {method: POST, url: \"http://SINK/{{prompt}}\"}}\n  - text: Done.\n",
        )],
        sink: Some(sink.address().to_string()),
        ..Plan::default()
    })
    .await;

    let submitted =
        submit_all(&house, count, count, |n| json!({ "agent": "caller", "prompt": format!("task-{n}") })).await;
    until_succeeded(&house, count).await;

    let listed = house.list("/tasks?agent=caller", 1_000).await;
    assert_eq!(ids(&listed).into_iter().collect::<BTreeSet<_>>(), submitted);
    assert_eq!(listed.len(), count, "no task is listed twice");
    for task in &listed {
        assert_eq!((&task["status"], &task["attempt"]), (&json!("succeeded"), &json!(0)), "{task}");
    }
    let delivered = sink.deliveries();
    let paths: BTreeSet<&str> = delivered.iter().map(|delivery| delivery.path.as_str()).collect();
    let keys: BTreeSet<&str> = delivered.iter().map(|delivery| delivery.key.as_str()).collect();
    assert_eq!((delivered.len(), paths.len(), keys.len()), (count, count, count), "every task did its work once");
    for id in submitted.iter().take(20) {
        let kinds: Vec<Value> = house.journal(id).await.iter().map(|step| step["type"].clone()).collect();
        assert_eq!(kinds, ["input", "model", "tool", "model"], "{id}");
    }
    let stats = house.stored().await;
    assert_eq!(stats["tasks"]["succeeded"], json!(count), "{stats}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_queued_tasks_are_listed_without_gap_or_double_and_all_end() {
    let count = size("BEHAVIOUR_QUEUED", 10_000);
    let places = 32;
    let house = House::new(Plan {
        agents: &[
            ("blocker", "name: blocker\nmodel: scripted/hang\n"),
            ("quick", "name: quick\nmodel: scripted/quick\n"),
        ],
        dialogues: &[("hang", "turns:\n  - hang: true\n"), ("quick", "turns:\n  - text: Done.\n    chunks: 1\n")],
        settings: &[("AGENT_POOL_CAPACITY", &places.to_string())],
        ..Plan::default()
    })
    .await;
    let blockers = submit_all(&house, places, places, |_| json!({ "agent": "blocker", "prompt": "block" })).await;
    house.until("agent-orchestrator", "/metrics/pool-stats", |_, stats| stats["leases"] == json!(places)).await;

    let body = |n: usize| match n % 10 {
        // Some for a later time, some more urgent: the list is by age all the same.
        0 => json!({ "agent": "quick", "prompt": "hurry", "delay": "1s" }),
        1 => json!({ "agent": "quick", "prompt": "hurry", "priority": n / 10 % 10 }),
        _ => json!({ "agent": "quick", "prompt": "hurry" }),
    };
    let submitted = submit_all(&house, count, 64, body).await;
    assert_eq!(house.count("queued").await, count as u64);
    for limit in [1_000, 333] {
        let listed = ids(&house.list("/tasks?status=queued", limit).await);
        assert_eq!(listed.len(), count, "none twice");
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), submitted, "in pages of {limit}");
    }

    for id in &blockers {
        let (status, answer) = house.post(&format!("/tasks/{id}/cancel"), &Value::Null).await;
        assert_eq!(status, 202, "{answer}");
    }
    until_succeeded(&house, count).await;
    let ended = ids(&house.list("/tasks?status=succeeded", 1_000).await);
    assert_eq!((ended.len(), ended.into_iter().collect::<BTreeSet<_>>()), (count, submitted));
    let stats = house.stored().await;
    assert_eq!(stats["tasks"]["queued"].as_u64().unwrap_or(0), 0, "{stats}");
    house.stop().await;
}
