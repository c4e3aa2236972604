//! Limits on how many tasks run and start: what is held back says so.

use domain::{TaskId, TaskStatus};
use reqwest::StatusCode;
use serde_json::{Value, json};
use state::Claim;
use wire::{SubmitTask, TaskView, WaitingFor};

use crate::platform::{Platform, request};
use crate::worker::{Run, worker_id};

fn solo(limit_key: Option<&str>) -> SubmitTask {
    SubmitTask { agent: "solo".parse().unwrap(), limit_key: limit_key.map(str::to_owned), ..request() }
}

async fn submit(platform: &Platform, limit_key: Option<&str>) -> TaskId {
    platform.client.submit(&solo(limit_key)).await.unwrap().task.id
}

/// A worker asks for the task, and is not given it.
async fn refused(platform: &Platform, task: TaskId) -> TaskView {
    let claim = Claim { task, worker: worker_id(), now: platform.clock.now(), thread_messages: 0 };
    assert!(platform.state.claim(claim).await.unwrap().is_none());
    let view = platform.task(task).await;
    assert_eq!(view.status, TaskStatus::Queued);
    view
}

#[tokio::test]
async fn a_task_that_a_limit_holds_back_says_which_who_holds_it_and_its_place() {
    let platform = Platform::start().await;
    platform.publish(json!({ "name": "solo", "queue": { "concurrency": 1 } })).await;
    let first = submit(&platform, None).await;
    let run = Run::of(&platform, first).await;
    let (second, third) = (submit(&platform, None).await, submit(&platform, None).await);
    assert_eq!(platform.task(second).await.waiting_for, [WaitingFor::Worker], "no worker has asked for it");
    for (task, place) in [(second, 1), (third, 2)] {
        let limit = WaitingFor::Limit {
            gate: "agent/solo".to_owned(),
            limit: "1 running at once".to_owned(),
            holders: vec![first],
            position: place,
            until: None,
        };
        assert_eq!(refused(&platform, task).await.waiting_for, [limit]);
    }
    let listed: Value = platform.get("/tasks").send().await.unwrap().json().await.unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 3);
    run.succeed("done").await;
    assert_eq!(platform.task(second).await.waiting_for, [WaitingFor::Worker]);
    Run::of(&platform, second).await.succeed("done").await;
    Run::of(&platform, third).await.succeed("done").await;
}

#[tokio::test]
async fn a_limit_on_starts_says_when_it_opens() {
    let platform = Platform::start().await;
    platform.publish(json!({ "name": "solo", "queue": { "rate": { "starts": 1, "per": "1h" } } })).await;
    let first = submit(&platform, None).await;
    Run::of(&platform, first).await.succeed("done").await;
    let started = platform.task(first).await.started_at.unwrap();
    let second = submit(&platform, None).await;
    let view = refused(&platform, second).await;
    let [WaitingFor::Limit { limit, until, holders, .. }] = &view.waiting_for[..] else { panic!("{view:?}") };
    assert_eq!((limit.as_str(), holders.len()), ("1 started within 1h", 0));
    assert_eq!(*until, Some(started + std::time::Duration::from_hours(1)));
}

#[tokio::test]
async fn tasks_with_one_limit_key_share_its_limits() {
    let platform = Platform::start().await;
    platform.publish(json!({ "name": "solo", "queue": { "concurrency_per_key": 1 } })).await;
    let ann = submit(&platform, Some("ann")).await;
    Run::of(&platform, ann).await;
    let bob = submit(&platform, Some("bob")).await;
    Run::of(&platform, bob).await;
    let nobody = submit(&platform, None).await;
    Run::of(&platform, nobody).await;
    let again = submit(&platform, Some("ann")).await;
    let view = refused(&platform, again).await;
    assert_eq!(view.limit_key.as_deref(), Some("ann"));
    assert!(matches!(&view.waiting_for[..], [WaitingFor::Limit { gate, .. }] if gate == "agent/solo/key/ann"));
}

#[tokio::test]
async fn a_limit_key_is_checked_and_belongs_to_the_request() {
    let platform = Platform::start().await;
    platform.publish(json!({ "name": "solo" })).await;
    for wrong in ["", "naïve", &"k".repeat(257)] {
        let body = json!({ "agent": "solo", "prompt": "hi", "limit_key": wrong });
        let response = platform.post("/tasks").json(&body).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{wrong}");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["errors"][0]["pointer"], "/limit_key");
    }
    let keyed = |limit_key| SubmitTask { idempotency_key: Some("k".to_owned()), ..solo(limit_key) };
    let first = platform.client.submit(&keyed(Some("ann"))).await.unwrap();
    assert!(!platform.client.submit(&keyed(Some("ann"))).await.unwrap().created);
    assert_eq!(first.task.limit_key.as_deref(), Some("ann"));
    for other in [Some("bob"), None] {
        assert!(platform.client.submit(&keyed(other)).await.is_err());
    }
}
