//! Calls that a person must allow.

use agent::RunEnd;
use domain::{FailureKind, StepBody, TaskStatus, ToolOutcome, WaitFor};
use serde_json::{Value, json};

use crate::actor::{Act, Actor, last_tool, turn};
use crate::world::World;

/// An agent whose first answer makes these calls, and whose second one says what the last of them gave.
async fn agent(world: &World, tools: Value, calls: &'static [(&'static str, &'static str)]) {
    let actor = Actor::new(move |request| match turn(request) {
        0 => {
            let calls: Vec<_> =
                calls.iter().map(|(name, text)| (*name, serde_json::from_str(text).expect("JSON"))).collect();
            Act::calls(&calls)
        }
        _ => Act::says(&last_tool(request)),
    });
    world.model("first", actor);
    world.publish("payer", json!({ "model": "first/m", "tools": tools })).await;
}

#[tokio::test]
async fn a_call_waits_for_a_person_while_the_others_of_its_answer_are_made() {
    let world = World::new();
    let tools = json!([{ "name": "pay", "approval": "always" }, "count"]);
    agent(&world, tools, &[("pay", r#"{"amount": 5}"#), ("count", "{}")]).await;
    let task = world.submit("payer").await;
    assert_eq!(world.run(task).await, RunEnd::Parked);
    assert!(world.bank.payments().is_empty());
    assert_eq!(world.kinds(task).await, ["input", "model", "tool", "parked"], "no mark before it begins");
    let waits = world.waits(task).await;
    let WaitFor::Approval { tool, arguments, reason, .. } = &waits[0].on else { panic!("{waits:?}") };
    assert_eq!((tool.as_str(), arguments), ("pay", &json!({ "amount": 5 })));
    assert!(!reason.is_empty());
    assert!(waits[0].expires_at.is_some(), "no longer than the task may take");

    world.approve(task).await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    assert_eq!(world.bank.payments().len(), 1);
    let kinds = world.kinds(task).await;
    assert_eq!(kinds[4..], ["resolved", "tool_started", "tool", "model"]);
    let resolved = world.journal(task).await;
    let StepBody::Resolved { by: domain::Resolution::Signal { from, .. }, .. } = &resolved[4].body else {
        panic!("{resolved:?}")
    };
    assert_eq!(from.as_deref(), Some("ann"), "who decided is in the journal");
}

#[tokio::test]
async fn a_refused_call_is_never_made() {
    let world = World::new();
    agent(&world, json!([{ "name": "pay", "approval": "always" }]), &[("pay", r#"{"amount": 5}"#)]).await;
    let task = world.submit("payer").await;
    assert_eq!(world.run(task).await, RunEnd::Parked);
    let wait = &world.waits(task).await[0];
    let WaitFor::Approval { digest, .. } = &wait.on else { panic!("{wait:?}") };
    world.answer(task, wait, json!({ "approved": false, "digest": digest, "reason": "not today" })).await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    assert!(world.bank.payments().is_empty());
    assert_eq!(world.said(task).await, json!("error: a person refused this call: not today"));
}

#[tokio::test]
async fn a_decision_about_another_call_allows_nothing() {
    let world = World::new();
    agent(&world, json!([{ "name": "pay", "approval": "always" }]), &[("pay", r#"{"amount": 5}"#)]).await;
    let task = world.submit("payer").await;
    assert_eq!(world.run(task).await, RunEnd::Parked);
    let wait = &world.waits(task).await[0];
    world.answer(task, wait, json!({ "approved": true, "digest": "0".repeat(64) })).await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    assert!(world.bank.payments().is_empty());
}

#[tokio::test]
async fn the_call_is_made_with_the_arguments_that_the_person_edited() {
    for (edit, made) in [(json!({ "amount": 3 }), true), (json!({ "amount": "lots" }), false), (json!({}), false)] {
        let world = World::new();
        agent(&world, json!([{ "name": "pay", "approval": "always" }]), &[("pay", r#"{"amount": 5}"#)]).await;
        let task = world.submit("payer").await;
        assert_eq!(world.run(task).await, RunEnd::Parked);
        let wait = &world.waits(task).await[0];
        let WaitFor::Approval { digest, .. } = &wait.on else { panic!("{wait:?}") };
        world.answer(task, wait, json!({ "approved": true, "digest": digest, "arguments": edit })).await;
        assert_eq!(world.run(task).await, RunEnd::Succeeded);
        let said = world.said(task).await.to_string();
        if made {
            assert_eq!(world.bank.payments()[0].1, edit);
            assert!(said.contains("a person changed the arguments"), "{said}");
        } else {
            assert!(world.bank.payments().is_empty());
            assert!(said.contains("the edit of the person"), "{said}");
        }
    }
}

#[tokio::test]
async fn what_would_be_refused_anyway_is_not_worth_a_persons_time() {
    let world = World::new();
    agent(&world, json!([{ "name": "pay", "approval": "always" }]), &[("pay", r#"{"amount": "x"}"#)]).await;
    let task = world.submit("payer").await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    let journal = world.journal(task).await;
    assert!(matches!(&journal[2].body, StepBody::Tool(done) if matches!(done.outcome, ToolOutcome::Error(_))));
}

#[tokio::test]
async fn the_first_approval_of_a_tool_covers_its_later_calls_up_to_a_price() {
    let world = World::new();
    let actor = Actor::new(|request| match turn(request) {
        0 => Act::calls(&[("pay", json!({ "amount": 1 }))]),
        1 => Act::calls(&[("pay", json!({ "amount": 2 }))]),
        2 => Act::calls(&[("pay", json!({ "amount": 50 }))]),
        _ => Act::says("done"),
    });
    world.model("first", actor);
    let tools = json!([{ "name": "pay", "approval": "once", "cost_argument": "/amount", "approval_above_usd": 10 }]);
    world.publish("payer", json!({ "model": "first/m", "tools": tools })).await;
    let task = world.submit("payer").await;
    assert_eq!(world.run(task).await, RunEnd::Parked);
    world.approve(task).await;
    assert_eq!(world.run(task).await, RunEnd::Parked, "the second was covered, the third costs too much");
    assert_eq!(world.bank.payments().len(), 2);
    world.approve(task).await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    assert_eq!(world.bank.payments().len(), 3);
}

#[tokio::test]
async fn a_decision_that_nobody_makes_ends_with_the_task() {
    let world = World::new();
    let actor = Actor::new(|_| Act::calls(&[("pay", json!({ "amount": 1 }))]));
    world.model("first", actor);
    let tools = json!([{ "name": "pay", "approval": "always" }]);
    let spec = json!({ "model": "first/m", "tools": tools, "limits": { "wall_time": "1h" } });
    world.publish("payer", spec).await;
    let task = world.submit("payer").await;
    assert_eq!(world.run(task).await, RunEnd::Parked);
    world.clock.advance(std::time::Duration::from_secs(3_700));
    let now = domain::Clock::now(world.clock.as_ref());
    world.state.due(now, std::time::Duration::from_secs(60), 100).await.expect("swept");
    if world.task(task).await.status == TaskStatus::Queued {
        assert_eq!(world.run(task).await, RunEnd::Failed);
    }
    assert_eq!(world.failure(task).await.kind, FailureKind::LimitExceeded);
    assert!(world.bank.payments().is_empty());
}

#[tokio::test]
async fn a_task_that_is_retried_while_a_person_was_asked_asks_again() {
    let world = World::new();
    agent(&world, json!([{ "name": "pay", "approval": "always" }]), &[("pay", r#"{"amount": 5}"#)]).await;
    let task = world.submit("payer").await;
    assert_eq!(world.run(task).await, RunEnd::Parked);
    world.state.cancel(&crate::world::namespace(), task).await.expect("cancelled");
    world.state.retry(&crate::world::namespace(), task, true).await.expect("retried");
    assert_eq!(world.run(task).await, RunEnd::Parked);
    world.approve(task).await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    assert_eq!(world.bank.payments().len(), 1);
}
