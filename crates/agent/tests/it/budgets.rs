//! Budgets: never exceeded, whatever runs at once and whatever dies.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use agent::RunEnd;
use domain::{EventBody, FailureKind, StepBody, TaskId, TaskStatus, Usage, WaitFor};
use llm::{ChatRequest, LlmError};
use serde_json::{Value, json};

use crate::actor::{Act, Actor, last_tool, turn};
use crate::world::{World, namespace};

/// Uses half of what the request can be read as, and ten tokens for the answer.
fn honest(request: &ChatRequest, act: Act) -> Act {
    let usage = Usage::tokens(llm::most_tokens(request, None) / 2, 10);
    act.change(|answer| answer.usage = usage)
}

/// A model that counts once and then says so.
fn counter() -> Arc<Actor> {
    Actor::new(|request| match turn(request) {
        0 => honest(request, Act::calls(&[("count", json!({}))])),
        _ => honest(request, Act::says("done")),
    })
}

async fn publish(world: &World, budget: Value) {
    let model = json!({ "name": "first/m", "max_output_tokens": 20 });
    world.publish("saver", json!({ "model": model, "tools": ["count"], "budget": budget })).await;
}

async fn spent(world: &World, task: TaskId) -> (u64, u64) {
    let levels = world.levels(task).await;
    (levels[0].spent, levels[0].reserved)
}

#[tokio::test]
async fn a_task_within_its_budget_pays_what_it_used_and_no_more() {
    let world = World::new();
    let actor = counter();
    world.model("first", actor.clone());
    publish(&world, json!({ "tokens": 100_000 })).await;
    let task = world.submit("saver").await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    let usage = world.task(task).await.usage;
    assert_eq!(spent(&world, task).await, (usage.total(), 0));
    assert_eq!(usage.total(), actor.tokens.load(Ordering::SeqCst));
    assert_eq!(actor.request(0).max_output_tokens, Some(20), "the provider keeps the limit that was reserved");
}

#[tokio::test]
async fn a_task_with_a_budget_has_a_longest_answer_and_one_without_keeps_its_providers() {
    let world = World::new();
    let actor = counter();
    world.model("first", actor.clone());
    world.publish("saver", json!({ "model": "first/m", "tools": ["count"], "budget": { "tokens": 100_000 } })).await;
    world.publish("free", json!({ "model": "first/m", "tools": ["count"] })).await;
    for agent in ["saver", "free"] {
        let task = world.submit(agent).await;
        assert_eq!(world.run(task).await, RunEnd::Succeeded);
    }
    assert_eq!(actor.request(0).max_output_tokens, Some(agent::driver::DEFAULT_OUTPUT_WITH_BUDGET));
    assert_eq!(actor.request(2).max_output_tokens, None);
}

#[tokio::test]
async fn a_call_that_might_exceed_the_budget_is_not_made() {
    let world = World::new();
    let actor = counter();
    world.model("first", actor.clone());
    publish(&world, json!({ "tokens": 30 })).await;
    let task = world.submit("saver").await;
    assert_eq!(world.run(task).await, RunEnd::Failed);
    assert_eq!(actor.asked(), 0);
    let failure = world.failure(task).await;
    assert_eq!(failure.kind, FailureKind::LimitExceeded);
    for part in [format!("task/{task}"), "30 tokens".to_owned(), "0 tokens".to_owned()] {
        assert!(failure.message.contains(&part), "{failure}");
    }
    assert_eq!(spent(&world, task).await, (0, 0));
}

#[tokio::test]
async fn a_person_may_raise_a_budget_and_the_task_goes_on() {
    let world = World::new();
    world.model("first", counter());
    publish(&world, json!({ "tokens": 30, "on_limit": "ask" })).await;
    let task = world.submit("saver").await;
    assert_eq!(world.run(task).await, RunEnd::Parked);
    let wait = world.waits(task).await.remove(0);
    let WaitFor::Budget { account, limit, used, asked, .. } = &wait.on else { panic!("{wait:?}") };
    assert_eq!((account.as_str(), *limit, *used), (format!("task/{task}").as_str(), 30, 0));
    assert!(*asked > 30);
    world.answer(task, &wait, json!({ "grant": { "tokens": 10_000 } })).await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
}

#[tokio::test]
async fn a_person_who_grants_nothing_ends_the_task() {
    let world = World::new();
    let actor = counter();
    world.model("first", actor.clone());
    publish(&world, json!({ "tokens": 30, "on_limit": "ask" })).await;
    let task = world.submit("saver").await;
    assert_eq!(world.run(task).await, RunEnd::Parked);
    let wait = world.waits(task).await.remove(0);
    world.answer(task, &wait, json!({ "grant": {} })).await;
    assert_eq!(world.run(task).await, RunEnd::Failed);
    assert_eq!(world.failure(task).await.kind, FailureKind::LimitExceeded);
    assert_eq!(actor.asked(), 0);
    // A person who retries it is asked anew.
    world.state.retry(&namespace(), task, true).await.expect("retried");
    assert_eq!(world.run(task).await, RunEnd::Parked);
}

#[tokio::test]
async fn grants_are_kept_when_a_dead_letter_is_retried() {
    let world = World::new();
    let actor = Actor::new(|request| match turn(request) {
        0 => honest(request, Act::says("")),
        _ => honest(request, Act::says("done")),
    });
    world.model("first", actor.clone());
    publish(&world, json!({ "tokens": 30, "on_limit": "ask" })).await;
    let task = world.submit("saver").await;
    assert_eq!(world.run(task).await, RunEnd::Parked);
    let wait = world.waits(task).await.remove(0);
    world.answer(task, &wait, json!({ "grant": { "tokens": 1_000_000 } })).await;
    world.state.cancel(&namespace(), task).await.expect("cancelled");
    world.state.retry(&namespace(), task, false).await.expect("retried");
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
}

async fn two_models(world: &World, budget: Value) -> (Arc<Actor>, Arc<Actor>) {
    let dear = Actor::new(|_| Act::says("dear"));
    let cheap = Actor::new(|_| Act::says("cheap"));
    world.model("dear", dear.clone());
    world.model("cheap", cheap.clone());
    world.price("dear", 1_000.0);
    world.price("cheap", 1.0);
    let model = json!({ "name": "dear/m", "fallbacks": ["dear/m", "cheap/m"], "max_output_tokens": 100 });
    world.publish("saver", json!({ "model": model, "budget": budget })).await;
    (dear, cheap)
}

#[tokio::test]
async fn a_budget_that_is_short_goes_on_with_a_cheaper_model() {
    let world = World::new();
    let (dear, cheap) = two_models(&world, json!({ "usd": 0.05, "on_limit": "downgrade" })).await;
    let task = world.submit("saver").await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    assert_eq!((dear.asked(), cheap.asked()), (0, 1));
    let journal = world.journal(task).await;
    let StepBody::Model(step) = &journal[1].body else { panic!("{journal:?}") };
    assert_eq!(step.model, "cheap/m");
    assert_eq!((step.tries[0].model.as_str(), step.tries[0].failure.kind), ("dear/m", FailureKind::LimitExceeded));
    assert_eq!(world.levels(task).await[0].spent, step.usage.cost.0);
}

#[tokio::test]
async fn a_budget_that_not_even_the_cheapest_model_fits_ends_the_task() {
    let world = World::new();
    let (dear, cheap) = two_models(&world, json!({ "usd": 0.000_001, "on_limit": "downgrade" })).await;
    let task = world.submit("saver").await;
    assert_eq!(world.run(task).await, RunEnd::Failed);
    assert_eq!((dear.asked(), cheap.asked()), (0, 0));
    assert_eq!(world.failure(task).await.kind, FailureKind::LimitExceeded);
}

#[tokio::test]
async fn a_budget_of_money_needs_models_with_prices() {
    let world = World::new();
    let actor = counter();
    world.model("first", actor.clone());
    publish(&world, json!({ "usd": 100.0 })).await;
    let task = world.submit("saver").await;
    assert_eq!(world.run(task).await, RunEnd::Failed);
    assert_eq!(actor.asked(), 0);
    let failure = world.failure(task).await;
    assert!(failure.message.contains("no price in models.yml"), "{failure}");
}

#[tokio::test]
async fn broken_calls_are_paid_too() {
    let world = World::new();
    let broken = LlmError::Unavailable { model: "dear/m".to_owned(), reason: "gone".to_owned(), retry_after: None };
    let first = Actor::new(move |_| Act::breaks(broken.clone()).after("half"));
    world.model("first", first);
    world.model("second", Actor::new(|_| Act::says("whole")));
    let model = json!({ "name": "first/m", "fallbacks": ["second/m"], "max_output_tokens": 20 });
    world.publish("saver", json!({ "model": model, "budget": { "tokens": 10_000, "model_calls": 10 } })).await;
    let task = world.submit("saver").await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    let levels = world.levels(task).await;
    let of = |what| levels.iter().find(|level| level.what == what).expect("it is limited").spent;
    assert_eq!(of(domain::Dimension::Tokens), world.task(task).await.usage.total());
    assert_eq!(of(domain::Dimension::ModelCalls), 2);
}

#[tokio::test]
async fn tool_calls_are_paid_before_any_of_them_is_made() {
    let world = World::new();
    let actor = Actor::new(|request| match turn(request) {
        0 => Act::calls(&[("count", json!({})), ("count", json!({ "hang": false })), ("nothing", json!({}))]),
        _ => Act::says(&last_tool(request)),
    });
    world.model("first", actor);
    publish(&world, json!({ "tool_calls": 1, "on_limit": "ask" })).await;
    let task = world.submit("saver").await;
    assert_eq!(world.run(task).await, RunEnd::Parked);
    assert_eq!(world.counter.calls.load(Ordering::SeqCst), 0);
    let wait = world.waits(task).await.remove(0);
    assert!(matches!(&wait.on, WaitFor::Budget { asked: 2, limit: 1, .. }), "what is refused costs nothing: {wait:?}");
    world.answer(task, &wait, json!({ "grant": { "tool_calls": 1 } })).await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    assert_eq!(world.counter.calls.load(Ordering::SeqCst), 2);

    publish(&world, json!({ "tool_calls": 1 })).await;
    let task = world.submit_with("saver", |task| task.agent_version = 2).await;
    assert_eq!(world.run(task).await, RunEnd::Failed);
    assert_eq!(world.counter.calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_call_that_a_person_refuses_costs_nothing_and_an_edited_one_what_it_costs_now() {
    for (approved, cents) in [(true, 300), (false, 0)] {
        let world = World::new();
        let actor = Actor::new(|request| match turn(request) {
            0 => Act::calls(&[("pay", json!({ "amount": 500 }))]),
            _ => Act::says("done"),
        });
        world.model("first", actor);
        world.price("first", 0.0);
        let tools = json!([{ "name": "pay", "approval": "always", "cost_argument": "/amount" }]);
        let spec = json!({ "model": "first/m", "tools": tools, "budget": { "usd": 10.0, "tool_calls": 9 } });
        world.publish("payer", spec).await;
        let task = world.submit("payer").await;
        assert_eq!(world.run(task).await, RunEnd::Parked);
        let wait = world.waits(task).await.remove(0);
        let WaitFor::Approval { digest, .. } = &wait.on else { panic!("{wait:?}") };
        let decision = json!({ "approved": approved, "digest": digest, "arguments": { "amount": 3 } });
        world.answer(task, &wait, decision).await;
        assert_eq!(world.run(task).await, RunEnd::Succeeded);
        assert_eq!(world.levels(task).await[0].spent, cents * domain::Usd::DOLLAR / 100);
        assert_eq!(world.bank.payments().len(), usize::from(approved));
    }
}

#[tokio::test]
async fn sub_agents_draw_on_the_budget_of_the_task_that_they_work_for() {
    let world = World::new();
    let helper = Actor::new(|request| honest(request, Act::says("helped")));
    world.model("helper", helper.clone());
    let boss = Actor::new(|request| match turn(request) {
        0 => honest(request, Act::calls(&[("delegate", json!({ "agent": "helper", "prompt": "help" }))])),
        _ => honest(request, Act::says(&last_tool(request))),
    });
    world.model("boss", boss.clone());
    let model = |name: &str| json!({ "name": format!("{name}/m"), "max_output_tokens": 20 });
    world.publish("helper", json!({ "model": model("helper") })).await;
    let spec = json!({
        "model": model("boss"), "tools": ["delegate"], "delegates": ["helper"], "budget": { "tokens": 100_000 }
    });
    world.publish("boss", spec).await;
    let task = world.submit("boss").await;
    assert_eq!(world.run(task).await, RunEnd::Parked);
    let child = world.children(task).await.remove(0);
    assert_eq!(world.run(child.id).await, RunEnd::Succeeded);
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    let used = boss.tokens.load(Ordering::SeqCst) + helper.tokens.load(Ordering::SeqCst);
    assert_eq!(spent(&world, task).await, (used, 0));
}

#[tokio::test]
async fn reaching_four_fifths_is_told_once() {
    let world = World::new();
    world.model("first", counter());
    publish(&world, json!({ "model_calls": 2 })).await;
    let mut events = bus::Events::subscribe(world.bus.as_ref()).await.expect("subscribed");
    let task = world.submit("saver").await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    let mut warnings = Vec::new();
    while let Some(bus::Received::Event(event)) = futures::StreamExt::next(&mut events).await {
        match &event.body {
            EventBody::BudgetWarning { level, .. } => warnings.push((level.what, level.limit)),
            EventBody::TaskFinished { .. } => break,
            _ => {}
        }
    }
    assert_eq!(warnings, [(domain::Dimension::ModelCalls, 2)]);
}

#[tokio::test]
async fn what_a_model_counted_itself_is_not_reserved_by_its_bytes_again() {
    let world = World::new();
    let actor = Actor::new(|request| match turn(request) {
        0 => Act::calls(&[("count", json!({}))]).change(|answer| answer.usage = Usage::tokens(500, 10)),
        _ => Act::says("done").change(|answer| answer.usage = Usage::tokens(600, 10)),
    });
    world.model("first", actor);
    publish(&world, json!({ "tokens": 6_000 })).await;
    // Four thousand bytes that the model counted as five hundred tokens: by their bytes they would not fit twice.
    let task = world.submit_with("saver", |task| task.input.prompt = "four".repeat(1_000)).await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    assert_eq!(spent(&world, task).await, (1_120, 0));
}

/// A small generator, so that a failing sitting can be repeated.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_that_run_at_once_and_die_at_random_never_exceed_their_agents_budget() {
    const LIMIT: u64 = 4_000;
    let world = Arc::new(World::new());
    let actor = counter();
    world.model("first", actor.clone());
    publish(&world, json!({ "per_hour": { "tokens": LIMIT } })).await;
    let mut runs = Vec::new();
    for number in 0..64_u64 {
        let world = Arc::clone(&world);
        runs.push(tokio::spawn(async move {
            let mut seed = number + 1;
            let task = world.submit("saver").await;
            loop {
                let mut waits = u32::try_from(next(&mut seed) % 12).expect("small");
                match world.run_until_killed(task, &mut waits).await {
                    // It may have died after its last word.
                    None if world.task(task).await.status.is_terminal() => return task,
                    None => {}
                    Some(RunEnd::Succeeded | RunEnd::Failed) => return task,
                    Some(other) => panic!("{other:?}"),
                }
            }
        }));
    }
    let mut succeeded = 0;
    let mut last = None;
    for run in runs {
        let task = run.await.expect("it ends");
        let ended = world.task(task).await;
        match ended.status {
            TaskStatus::Succeeded => succeeded += 1,
            _ => assert_eq!(ended.failure.map(|failure| failure.kind), Some(FailureKind::LimitExceeded)),
        }
        last = Some(task);
    }
    let cost = actor.tokens.load(Ordering::SeqCst);
    assert!(cost <= LIMIT, "{cost} of {LIMIT} were used");
    assert!((1..64).contains(&succeeded), "{succeeded} fitted");
    let level = &world.levels(last.expect("a task")).await[0];
    assert!(level.spent >= cost && level.spent <= LIMIT, "{level:?}");
    assert_eq!(level.reserved, 0, "nothing stays reserved for ever");
}
