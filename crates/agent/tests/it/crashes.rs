//! A run is killed at every moment at which it waits for anything, and the task still ends as if it had not been.

use std::sync::atomic::Ordering;

use agent::RunEnd;
use domain::{StepBody, TaskId, TaskStatus, WaitFor};
use serde_json::{Value, json};

use crate::actor::{Act, Actor, last_tool, turn};
use crate::world::World;

/// Runs a task to its end. Its worker dies once, when it has waited so often; people answer what it asks.
async fn live(world: &World, task: TaskId, mut waits: u32) -> bool {
    let mut killed = false;
    for _ in 0..100 {
        match world.task(task).await.status {
            TaskStatus::Queued => match world.run_until_killed(task, &mut waits).await {
                None => killed = true,
                Some(RunEnd::Retried | RunEnd::Dropped) => panic!("it goes on at once"),
                Some(_) => {}
            },
            TaskStatus::Waiting => answer(world, task).await,
            _ => return killed,
        }
    }
    panic!("the task does not end: {:?}", world.kinds(task).await);
}

/// What a person answers who knows the truth.
async fn answer(world: &World, task: TaskId) {
    for wait in world.waits(task).await {
        let value = match &wait.on {
            WaitFor::Approval { digest, .. } => json!({ "approved": true, "digest": digest }),
            WaitFor::Budget { .. } => json!({ "grant": { "tokens": 150 } }),
            WaitFor::Signal { .. } if world.bank.payments().is_empty() => json!("retry"),
            WaitFor::Signal { .. } => json!("paid"),
            other => panic!("{other:?}"),
        };
        world.answer(task, &wait, value).await;
    }
}

/// Kills a run after every number of waits until one is not reached; `check` judges each end.
async fn at_every_moment(agent: Value, check: impl AsyncFn(&World, TaskId)) {
    let mut moments = 0;
    loop {
        let world = World::new();
        let actor = Actor::new(|request| match turn(request) {
            0 => Act::calls(&[("pay", json!({ "amount": 5 })), ("count", json!({}))]),
            1 => Act::calls(&[("count", json!({}))]),
            _ => Act::says(&format!("counted, last {}", !last_tool(request).is_empty())),
        });
        world.model("first", actor);
        let mut spec = agent.clone();
        spec["model"] = json!({ "name": "first/m", "max_output_tokens": 20 });
        world.publish("agent", spec).await;
        let task = world.submit("agent").await;
        let killed = live(&world, task, moments).await;
        let ended = world.ended(task, TaskStatus::Succeeded).await;
        assert_eq!(world.said(task).await, json!("counted, last true"), "killed after {moments} waits");
        let journal = world.journal(task).await;
        assert!(journal.iter().zip(0..).all(|(step, seq)| step.seq == seq));
        let answers = journal.iter().filter(|step| matches!(step.body, StepBody::Model(_))).count();
        assert_eq!(answers, 3, "killed after {moments} waits");
        assert!(ended.usage.total() > 0);
        check(&world, task).await;
        if !killed {
            break;
        }
        moments += 1;
    }
    assert!(moments > 8, "it was killed at {moments} moments only");
}

#[tokio::test]
async fn an_approved_call_is_made_once_whenever_the_worker_dies() {
    let agent = json!({ "tools": [{ "name": "pay", "approval": "always" }, "count"] });
    at_every_moment(agent, async |world, task| {
        assert_eq!(world.bank.payments().len(), 1);
        let asked = world.journal(task).await.into_iter().filter(|step| match &step.body {
            StepBody::Parked { waits } => waits.iter().any(|wait| matches!(wait.on, WaitFor::Approval { .. })),
            _ => false,
        });
        assert_eq!(asked.count(), 1, "a person is asked once");
    })
    .await;
}

#[tokio::test]
async fn a_probed_call_is_made_once_and_nobody_is_asked_whenever_the_worker_dies() {
    let agent = json!({ "tools": [{ "name": "pay", "on_unknown": "probe", "probe": "paid" }, "paid", "count"] });
    at_every_moment(agent, async |world, task| {
        assert_eq!(world.bank.payments().len(), 1);
        assert!(world.bank.asked.load(Ordering::SeqCst) <= 2, "once, and once more when it died while it asked");
        assert!(!world.kinds(task).await.contains(&"parked"));
    })
    .await;
}

#[tokio::test]
async fn a_budget_that_is_raised_by_and_by_is_never_exceeded_whenever_the_worker_dies() {
    let agent = json!({ "tools": ["pay", "count"], "budget": { "tokens": 150, "on_limit": "ask" } });
    at_every_moment(agent, async |world, task| {
        assert_eq!(world.bank.payments().len(), 1);
        let level = world.levels(task).await.remove(0);
        assert_eq!(level.reserved, 0);
        let grants = world.journal(task).await.into_iter().filter(|step| match &step.body {
            StepBody::Resolved { call_id, .. } => call_id.starts_with("budget@"),
            _ => false,
        });
        let granted = 150 * grants.count() as u64;
        assert!(level.spent <= 150 + granted, "{level:?} with {granted} granted");
    })
    .await;
}

#[tokio::test]
async fn an_orderly_stop_leaves_no_call_unknown_whenever_it_comes() {
    let mut moments = 0;
    loop {
        let world = World::new();
        let actor = Actor::new(|request| match turn(request) {
            0 => Act::calls(&[("pay", json!({ "amount": 5 })), ("count", json!({}))]),
            _ => Act::says("done"),
        });
        world.model("first", actor);
        let spec = json!({ "model": { "name": "first/m", "max_output_tokens": 20 }, "tools": ["pay", "count"],
            "budget": { "model_calls": 2, "tool_calls": 2 } });
        world.publish("agent", spec).await;
        let task = world.submit("agent").await;
        let stopped = world.run_until_stopped(task, moments).await;
        if world.task(task).await.status == TaskStatus::Queued {
            world.run(task).await;
        }
        // Nothing is cut off, so that a budget without anything to spare is enough.
        world.ended(task, TaskStatus::Succeeded).await;
        let unknown =
            world.journal(task).await.into_iter().filter(
                |step| matches!(&step.body, StepBody::Tool(tool) if tool.outcome == domain::ToolOutcome::Unknown),
            );
        assert_eq!((world.bank.payments().len(), unknown.count()), (1, 0), "stopped after {moments} waits");
        if !stopped {
            break;
        }
        moments += 1;
    }
    assert!(moments > 4, "it was stopped at {moments} moments only");
}
