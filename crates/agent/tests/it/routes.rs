//! Which model is asked, what becomes of those that gave no answer, and what a request carries.

use std::sync::atomic::{AtomicU32, Ordering};

use agent::RunEnd;
use domain::{FailureKind, FinishReason, Image, Message, Reasoning, StepBody, TaskStatus, Usage};
use llm::{LlmError, ModelTerms};
use serde_json::json;

use crate::actor::{Act, Actor, last_tool, turn};
use crate::world::World;

fn unavailable() -> LlmError {
    LlmError::Unavailable { model: "first/m".to_owned(), reason: "gone".to_owned(), retry_after: None }
}

fn model_step(journal: &[domain::Step]) -> domain::ModelStep {
    let found = journal.iter().find_map(|step| match &step.body {
        StepBody::Model(model) => Some(model.clone()),
        _ => None,
    });
    found.expect("a model spoke")
}

const BOTH: &str = r#"{ "model": { "name": "first/m", "fallbacks": ["second/m"] } }"#;

#[tokio::test]
async fn a_stream_that_breaks_off_is_billed_and_the_next_model_speaks() {
    let world = World::new();
    world.model("first", Actor::new(|_| Act::breaks(unavailable()).after("half an ans")));
    world.model("second", Actor::new(|_| Act::says("whole")));
    world.price("first", 10.0);
    world.price("second", 1.0);
    world.publish("both", serde_json::from_str(BOTH).expect("JSON")).await;
    let task = world.submit("both").await;
    let mut events = bus::Events::subscribe_task(world.bus.as_ref(), task).await.expect("subscribed");
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    let step = model_step(&world.journal(task).await);
    assert_eq!((step.model.as_str(), step.text.as_str()), ("second/m", "whole"));
    assert_eq!(step.tries.len(), 1);
    let tried = &step.tries[0];
    assert_eq!((tried.model.as_str(), tried.failure.kind), ("first/m", FailureKind::ModelUnavailable));
    assert!(tried.usage.estimated && tried.usage.output_tokens == 11, "{:?}", tried.usage);
    assert!(tried.usage.cost.0 > 0);
    let ended = world.ended(task, TaskStatus::Succeeded).await;
    assert_eq!(ended.usage, step.total_usage(), "nothing is lost");
    // The reader is told that the answer began anew.
    let mut calls = Vec::new();
    while let Some(bus::Received::Event(event)) = futures::StreamExt::next(&mut events.live).await {
        match &event.body {
            domain::EventBody::TaskDelta { delta, .. } => calls.push((delta.call, delta.n, delta.text.clone())),
            domain::EventBody::TaskFinished { .. } => break,
            _ => {}
        }
    }
    assert_eq!(calls, [(1, 1, "half an ans".to_owned()), (2, 1, "whole".to_owned())]);
}

#[tokio::test]
async fn what_was_used_counts_when_nothing_speaks() {
    let world = World::new();
    let silence = || LlmError::Timeout { model: "first/m".to_owned(), millis: 1 };
    world.model("first", Actor::new(move |_| Act::breaks(silence())));
    world.publish("mute", json!({ "model": "first/m", "retry": { "max_attempts": 2 } })).await;
    let task = world.submit("mute").await;
    assert_eq!(world.run(task).await, RunEnd::Retried);
    world.clock.advance(std::time::Duration::from_secs(600));
    assert_eq!(world.run(task).await, RunEnd::Failed);
    assert_eq!(world.kinds(task).await, ["input", "tried", "attempt_failed", "tried"]);
    let ended = world.ended(task, TaskStatus::Failed).await;
    let mut sum = Usage::default();
    for step in world.journal(task).await {
        if let StepBody::Tried { tries } = step.body {
            for tried in tries {
                sum += tried.usage;
            }
        }
    }
    assert!(sum.total() > 0);
    assert_eq!(ended.usage, sum);
}

#[tokio::test]
async fn a_refusal_that_is_not_billed_uses_nothing() {
    let world = World::new();
    let limited = LlmError::RateLimited { model: "first/m".to_owned(), retry_after: None };
    world.model("first", Actor::new(move |_| Act::breaks(limited.clone())));
    world.model("second", Actor::new(|_| Act::says("whole")));
    world.publish("both", serde_json::from_str(BOTH).expect("JSON")).await;
    let task = world.submit("both").await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    let step = model_step(&world.journal(task).await);
    assert_eq!(step.tries[0].usage, Usage::default());
    assert_eq!(step.total_usage(), step.usage);
}

#[tokio::test]
async fn a_task_waits_for_a_place_at_its_model_without_a_worker_and_loses_no_attempt() {
    let world = World::new();
    let full = AtomicU32::new(6);
    let first = Actor::new(move |_| {
        if full.fetch_sub(1, Ordering::SeqCst) > 1 {
            let retry_after = Some(std::time::Duration::from_secs(2));
            return Act::breaks(LlmError::Busy { model: "first/m".to_owned(), retry_after });
        }
        Act::says("at last")
    });
    world.model("first", first);
    world.publish("patient", json!({ "model": "first/m", "retry": { "max_attempts": 1 } })).await;
    let task = world.submit("patient").await;
    for _ in 0..5 {
        assert_eq!(world.run(task).await, RunEnd::Parked);
        let waiting = world.ended(task, TaskStatus::Waiting).await;
        assert_eq!(waiting.attempt, 0);
        world.clock.advance(std::time::Duration::from_secs(5));
        let now = domain::Clock::now(&*world.clock);
        world.state.due(now, std::time::Duration::from_secs(60), 10).await.expect("woken");
    }
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
}

#[tokio::test]
async fn a_fallback_that_refuses_does_not_fail_a_task_whose_model_is_only_full() {
    let world = World::new();
    let busy = || LlmError::Busy { model: "first/m".to_owned(), retry_after: None };
    let refused = || LlmError::Refused { model: "second/m".to_owned(), reason: "no".to_owned() };
    world.model("first", Actor::new(move |_| Act::breaks(busy())));
    world.model("second", Actor::new(move |_| Act::breaks(refused())));
    world.publish("both", serde_json::from_str(BOTH).expect("JSON")).await;
    let task = world.submit("both").await;
    assert_eq!(world.run(task).await, RunEnd::Parked);
}

#[tokio::test]
async fn an_answer_that_is_not_understood_is_asked_for_again_twice_and_no_more() {
    let world = World::new();
    let invalid = LlmError::Invalid { model: "first/m".to_owned(), reason: "no JSON".to_owned() };
    let first = Actor::new(move |_| Act::breaks(invalid.clone()));
    world.model("first", first.clone());
    world.model("second", Actor::new(|_| Act::says("whole")));
    world.publish("both", serde_json::from_str(BOTH).expect("JSON")).await;
    let task = world.submit("both").await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    assert_eq!(first.asked(), 3);
    let step = model_step(&world.journal(task).await);
    assert_eq!(step.tries.len(), 3);
    assert!(step.tries.iter().all(|tried| tried.usage.input_tokens > 0), "each was billed");
}

#[tokio::test]
async fn tool_calls_that_were_cut_off_are_never_made() {
    for finish in [FinishReason::Length, FinishReason::ContentFilter] {
        let world = World::new();
        let actor = Actor::new(move |_| Act::calls(&[("count", json!({}))]).change(|answer| answer.finish = finish));
        world.model("first", actor.clone());
        let spec = json!({ "model": "first/m", "tools": ["count"], "retry": { "max_attempts": 1 } });
        world.publish("cut", spec).await;
        let task = world.submit("cut").await;
        assert_eq!(world.run(task).await, RunEnd::Failed);
        assert_eq!(world.failure(task).await.kind, FailureKind::ModelAnswerInvalid);
        assert_eq!(actor.asked(), 3, "bounded");
        assert_eq!(world.counter.calls.load(std::sync::atomic::Ordering::SeqCst), 0);
    }
}

#[tokio::test]
async fn a_request_carries_effort_and_what_the_model_thought_before() {
    let world = World::new();
    let thought = Reasoning { text: "hm".to_owned(), opaque: Some(json!({ "dialect": "x", "signature": "s" })) };
    let kept = thought.clone();
    let actor = Actor::new(move |request| match turn(request) {
        0 => Act::calls(&[("count", json!({}))]).change(|answer| answer.reasoning = vec![kept.clone()]),
        _ => Act::says("done"),
    });
    world.model("first", actor.clone());
    world.publish("thinker", json!({ "model": { "name": "first/m", "effort": "high" }, "tools": ["count"] })).await;
    let task = world.submit("thinker").await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    assert_eq!(actor.request(0).effort, Some(domain::agent::Effort::High));
    let again = actor.request(1);
    let said = again.messages.iter().find_map(|message| match message {
        Message::Assistant { reasoning, .. } => Some(reasoning.clone()),
        _ => None,
    });
    assert_eq!(said, Some(vec![thought]));
}

#[tokio::test]
async fn ids_of_calls_that_could_not_be_said_back_are_replaced() {
    let world = World::new();
    let actor = Actor::new(|request| match turn(request) {
        0 => Act::calls(&[("count", json!({})), ("count", json!({})), ("count", json!({}))]).change(|answer| {
            answer.tool_calls[0].id = "budget@1".to_owned();
            answer.tool_calls[1].id = "a/../b \u{1b}[2J".to_owned();
            answer.tool_calls[2].id = "x".repeat(10_000);
        }),
        _ => Act::says(&last_tool(request)),
    });
    world.model("first", actor);
    world.publish("odd", json!({ "model": "first/m", "tools": ["count"] })).await;
    let task = world.submit("odd").await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    let step = model_step(&world.journal(task).await);
    let ids: Vec<_> = step.tool_calls.iter().map(|call| call.id.as_str()).collect();
    assert_eq!(ids, ["@1.0", "@1.1", "@1.2"]);
}

fn picture(name: &str) -> impl FnOnce(&mut domain::NewTask) {
    let image = Image { url: format!("artifact:{name}"), media_type: None };
    move |task| task.input.images = vec![image]
}

async fn keep(world: &World, task: domain::TaskId, name: &str, media_type: &str, bytes: &'static [u8]) {
    let claimed = world.claim(task).await;
    let digest = world.blobs.put(bytes::Bytes::from_static(bytes)).await.expect("kept");
    let artifact = state::Artifact {
        name: name.to_owned(),
        media_type: media_type.to_owned(),
        size: bytes.len() as u64,
        digest,
        at: domain::Clock::now(world.clock.as_ref()),
    };
    world.state.put_artifact(claimed.lease(), artifact).await.expect("recorded");
    world.state.release(claimed.lease()).await.expect("released");
}

#[tokio::test]
async fn a_picture_that_is_kept_with_the_task_reaches_the_model_as_data() {
    let world = World::new();
    let actor = Actor::new(|request| match turn(request) {
        0 => Act::calls(&[("count", json!({}))]),
        _ => Act::says("a cat"),
    });
    world.model("first", actor.clone());
    world.publish("seer", json!({ "model": "first/m", "tools": ["count"] })).await;
    let task = world.submit_with("seer", picture("cat.png")).await;
    keep(&world, task, "cat.png", "image/png", b"\x89PNG").await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    for number in 0..2 {
        let request = actor.request(number);
        let Some(Message::User { images, .. }) = request.messages.first() else { panic!("{request:?}") };
        let wanted =
            Image { url: "data:image/png;base64,iVBORw==".to_owned(), media_type: Some("image/png".to_owned()) };
        assert_eq!(images[..], [wanted]);
    }
    let journal = world.journal(task).await;
    let StepBody::Input(input) = &journal[0].body else { panic!("{journal:?}") };
    assert_eq!(input.images[0].url, "artifact:cat.png", "the journal keeps the reference");
}

#[tokio::test]
async fn a_picture_that_cannot_be_shown_fails_the_task_and_says_why() {
    static LARGE: [u8; 10 * 1024 * 1024 + 1] = [0; 10 * 1024 * 1024 + 1];
    for (name, media_type, bytes, word) in [
        ("dog.png", "image/png", &b"\x89PNG"[..], "not among the files"),
        ("cat.png", "text/html", b"\x89PNG", "no picture"),
        ("cat.png", "image/png", &LARGE, "10485761 bytes"),
    ] {
        let world = World::new();
        let actor = Actor::new(|_| Act::says("a cat"));
        world.model("first", actor.clone());
        world.publish("seer", json!({ "model": "first/m" })).await;
        let task = world.submit_with("seer", picture(name)).await;
        keep(&world, task, "cat.png", media_type, bytes).await;
        assert_eq!(world.run(task).await, RunEnd::Failed);
        let failure = world.failure(task).await;
        assert!(failure.message.contains(word), "{failure}");
        assert_eq!(actor.asked(), 0);
    }
}

#[tokio::test]
async fn the_limit_on_tokens_holds_before_a_call() {
    let world = World::new();
    let actor = Actor::new(|request| match request.max_output_tokens {
        Some(most) => Act::says("as long as I may").change(|answer| {
            answer.usage = Usage::tokens(100, u64::from(most));
            answer.finish = FinishReason::Length;
        }),
        None => Act::says("endless").change(|answer| answer.usage = Usage::tokens(100, 1_000_000)),
    });
    world.model("first", actor.clone());
    world.describe("first", ModelTerms { max_output_tokens: Some(50_000), ..ModelTerms::default() });
    world.publish("frugal", json!({ "model": "first/m", "limits": { "max_tokens": 2_000 } })).await;
    let task = world.submit("frugal").await;
    assert_eq!(world.run(task).await, RunEnd::Failed);
    let failure = world.failure(task).await;
    assert_eq!(failure.kind, FailureKind::LimitExceeded);
    assert!(failure.message.contains("limits.max_tokens"), "{failure}");
    assert!(world.task(task).await.usage.output_tokens <= 2_000);
    let long = world.submit_with("frugal", |task| task.input.prompt = "word ".repeat(10_000)).await;
    assert_eq!(world.run(long).await, RunEnd::Failed);
    assert_eq!(actor.asked(), 1, "what does not fit is not asked");
}
