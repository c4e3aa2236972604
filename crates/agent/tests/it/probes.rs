//! Calls that a crash cut off, and the tool that knows whether they happened.

use std::sync::atomic::Ordering;

use agent::RunEnd;
use domain::{StepBody, WaitFor};
use serde_json::{Value, json};

use crate::actor::{Act, Actor, last_tool, turn};
use crate::world::World;

async fn agent(world: &World, probe: Value, tools: &[&str]) {
    let actor = Actor::new(|request| match turn(request) {
        0 => Act::calls(&[("pay", json!({ "amount": 5 }))]),
        _ => Act::says(&last_tool(request)),
    });
    world.model("first", actor);
    let mut pay = json!({ "name": "pay", "on_unknown": "probe" });
    if !probe.is_null() {
        pay["probe"] = probe;
    }
    let mut all = vec![pay];
    all.extend(tools.iter().map(|tool| json!(tool)));
    world.publish("payer", json!({ "model": "first/m", "tools": all })).await;
}

#[tokio::test]
async fn a_probe_that_knows_that_it_happened_ends_the_call() {
    let world = World::new();
    agent(&world, json!("paid"), &["paid"]).await;
    let task = world.submit("payer").await;
    // The mark is journaled and the money has gone; the run dies before the outcome is told.
    let claimed = world.claim(task).await;
    mark(&world, claimed.lease()).await;
    world.bank.paid.lock().expect("not poisoned").push((format!("{task}/1/0"), json!({ "amount": 5 })));
    die(&world, claimed).await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    assert_eq!(world.bank.payments().len(), 1, "it was not made again");
    assert_eq!(world.bank.asked.load(Ordering::SeqCst), 1);
    let said: Value = serde_json::from_str(world.said(task).await.as_str().expect("text")).expect("JSON");
    assert_eq!(said, json!({ "happened": true, "asked": "pay" }));
    let kinds = world.kinds(task).await;
    assert!(kinds.ends_with(&["lease_lost", "tool", "probed", "model"]), "{kinds:?}");
}

#[tokio::test]
async fn a_probe_that_knows_that_it_did_not_happen_has_it_made_again() {
    let world = World::new();
    agent(&world, json!("paid"), &["paid"]).await;
    let task = world.submit("payer").await;
    let claimed = world.claim(task).await;
    mark(&world, claimed.lease()).await;
    die(&world, claimed).await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    assert_eq!(world.bank.payments().len(), 1);
    assert_eq!(world.bank.asked.load(Ordering::SeqCst), 1);
    assert_eq!(world.said(task).await, json!("paid"));
}

#[tokio::test]
async fn a_person_is_asked_when_no_probe_can_be() {
    for (probe, tools) in [(json!("paid"), &[][..]), (json!("count"), &["count"][..]), (Value::Null, &["paid"][..])] {
        let world = World::new();
        agent(&world, probe.clone(), tools).await;
        let task = world.submit("payer").await;
        let claimed = world.claim(task).await;
        mark(&world, claimed.lease()).await;
        die(&world, claimed).await;
        assert_eq!(world.run(task).await, RunEnd::Parked, "{probe}");
        let waits = world.waits(task).await;
        assert!(matches!(&waits[0].on, WaitFor::Signal { name, .. } if name == "outcome_unknown"));
        let probed = world.journal(task).await.into_iter().filter(|step| matches!(step.body, StepBody::Probed { .. }));
        assert_eq!(probed.count(), usize::from(probe == json!("count")), "asked at most once");
        world.answer(task, &waits[0], json!("it was made")).await;
        assert_eq!(world.run(task).await, RunEnd::Succeeded);
        assert!(world.bank.payments().is_empty());
    }
}

/// Journals what a run has done that dies right after its mark.
async fn mark(world: &World, lease: domain::Lease) {
    let at = domain::Clock::now(world.clock.as_ref());
    let answer = domain::ModelStep {
        model: "first/m".to_owned(),
        text: String::new(),
        tool_calls: vec![domain::ToolCall {
            id: "c0".to_owned(),
            name: "pay".to_owned(),
            arguments: json!({ "amount": 5 }),
        }],
        finish: domain::FinishReason::ToolCalls,
        usage: domain::Usage::tokens(10, 1),
        structured: false,
        duration_ms: 0,
        reasoning: Vec::new(),
        tries: Vec::new(),
    };
    let started = StepBody::ToolStarted { call_id: "c0".to_owned(), tool: "pay".to_owned() };
    let steps = vec![
        state::NewStep { seq: 1, at, body: StepBody::Model(answer) },
        state::NewStep { seq: 2, at, body: started },
    ];
    world.state.append(lease, steps).await.expect("appended");
}

async fn die(world: &World, claimed: state::Claimed) {
    drop(claimed);
    let leases = world.state.leases().await.expect("the record answers");
    let now = domain::Clock::now(world.clock.as_ref());
    world.state.reap(leases, 1_000, now).await.expect("reaped");
}
