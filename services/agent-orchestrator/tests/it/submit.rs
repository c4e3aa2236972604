//! Submitting a task.

use std::collections::HashSet;

use bus::WorkQueue;
use domain::{AgentName, ExecutionMode, HumanDuration, TaskStatus};
use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::json;
use wire::{InputBody, SubmitTask, WaitingFor};

use crate::platform::{PATIENCE, Platform, answer, request};

fn keyed(key: &str) -> SubmitTask {
    SubmitTask { idempotency_key: Some(key.to_owned()), ..request() }
}

#[tokio::test]
async fn an_accepted_task_is_recorded_and_announced() {
    let platform = Platform::start().await;
    let response = platform.post("/tasks").json(&request()).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let task: wire::TaskView = response.json().await.unwrap();
    assert_eq!(location, format!("/tasks/{}", task.id));
    assert_eq!((task.status, task.priority, task.agent_version), (TaskStatus::Queued, 5, 1));

    let ready = tokio::time::timeout(PATIENCE, platform.bus.next(ExecutionMode::Autonomous)).await.unwrap().unwrap();
    assert_eq!(ready.task.task, task.id);
    ready.done();
    let read = platform.task(task.id).await;
    assert_eq!(read.waiting_for, [WaitingFor::Worker]);
    assert_eq!(wire::TaskView { waiting_for: Vec::new(), ..read }, task, "what is answered is what is read later");
}

#[tokio::test]
async fn everything_that_was_asked_for_is_recorded() {
    let platform = Platform::start().await;
    let full = json!({
        "agent": "writer", "input": { "prompt": "hello", "data": { "n": 1 } }, "priority": 9, "delay": "1h", "ttl": "30m",
        "deadline": "2035-01-01T00:00:00.5Z", "thread_id": "0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c11", "user": "kim",
        "metadata": { "team": "finance" }, "idempotency_key": "k1"
    });
    let now = platform.clock.now();
    let (status, task) = answer(platform.post("/queue/submit").json(&full)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{task}");
    let task: wire::TaskView = serde_json::from_value(task).unwrap();
    assert_eq!((task.priority, task.user.as_deref(), task.metadata["team"].as_str()), (9, Some("kim"), "finance"));
    assert_eq!(task.deadline.unwrap().to_rfc3339(), "2035-01-01T00:00:00.500+00:00");
    assert!(task.run_at.unwrap() >= now + HumanDuration::from_secs(3599).0);
    assert_eq!(task.expires_at.unwrap() - task.run_at.unwrap(), chrono::Duration::minutes(30));
    assert!(task.thread_id.is_some() && task.links.thread.is_some());
    assert_eq!(platform.bus.depth(ExecutionMode::Autonomous), 0, "a delayed task is not announced");
    assert!(matches!(platform.task(task.id).await.waiting_for[..], [WaitingFor::RunAt { .. }]));

    let journal = platform.client.whole_journal(task.id).await.unwrap();
    let input = serde_json::to_value(&journal[0]).unwrap();
    assert_eq!((&input["type"], &input["prompt"], &input["data"]["n"]), (&json!("input"), &json!("hello"), &json!(1)));
}

#[tokio::test]
async fn the_same_key_names_the_first_task_by_header_or_body() {
    let platform = Platform::start().await;
    let first = platform.client.submit(&keyed("k")).await.unwrap();
    let again = platform.client.submit_with_key(&request(), "k").await.unwrap();
    let input = InputBody::new("hello");
    let other_form = SubmitTask { prompt: None, input: Some(input), ..keyed("k") };
    let once_more = platform.client.submit(&other_form).await.unwrap();
    assert!(first.created && !again.created && !once_more.created);
    assert!(first.task.id == again.task.id && first.task.id == once_more.task.id);
    assert_eq!(platform.count().await, 1);
}

#[tokio::test]
async fn the_same_key_with_another_request_is_refused() {
    let platform = Platform::start().await;
    let first = platform.client.submit(&keyed("k")).await.unwrap();
    let other = SubmitTask { prompt: Some("something else".to_owned()), ..keyed("k") };
    let (status, problem) = answer(platform.post("/tasks").json(&other)).await;
    assert_eq!((status, &problem["type"]), (StatusCode::CONFLICT, &json!("/errors/idempotency-mismatch")));
    assert!(problem["detail"].as_str().unwrap().contains(&first.task.id.to_string()));
    assert_eq!(platform.count().await, 1);
}

#[tokio::test]
async fn fifty_submits_of_one_key_at_once_make_one_task() {
    let platform = Platform::start().await;
    let body = keyed("k");
    let submitted = join_all((0..50).map(|_| platform.client.submit(&body))).await;
    let submitted: Vec<_> = submitted.into_iter().map(Result::unwrap).collect();
    let ids: HashSet<_> = submitted.iter().map(|submitted| submitted.task.id).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(submitted.iter().filter(|submitted| submitted.created).count(), 1);
    assert_eq!(platform.count().await, 1);
}

#[tokio::test]
async fn an_unknown_agent_is_told_with_what_was_probably_meant() {
    let platform = Platform::start().await;
    let body = SubmitTask { agent: AgentName::new("wirter").unwrap(), ..request() };
    let (status, problem) = answer(platform.post("/tasks").json(&body)).await;
    assert_eq!((status, &problem["type"]), (StatusCode::NOT_FOUND, &json!("/errors/unknown-agent")));
    assert_eq!(problem["errors"][0]["pointer"], "/agent");
    assert_eq!(problem["errors"][0]["hint"], "did you mean `writer`?");
    assert_eq!(platform.count().await, 0);
}

#[tokio::test]
async fn a_prompt_at_the_limit_is_accepted_and_one_above_is_not_recorded() {
    const MIB: usize = 1024 * 1024;
    let platform = Platform::start().await;
    let of = |size: usize| SubmitTask { prompt: Some("x".repeat(size)), ..request() };
    let task = platform.client.submit(&of(MIB)).await.unwrap().task;
    let journal = platform.client.whole_journal(task.id).await.unwrap();
    let domain::StepBody::Input(input) = &journal[0].0.body else { panic!("{:?}", journal[0].0.body) };
    assert_eq!(input.prompt.len(), MIB);

    for (size, kind) in [(MIB + 1, "/errors/too-large"), (100 * MIB, "/errors/body-too-large")] {
        // The server closes the connection before it has read a huge body; the answer may be lost with it.
        let Ok(response) = platform.post("/tasks").json(&of(size)).send().await else {
            assert!(size > 2 * MIB, "only a huge body may cost the connection");
            continue;
        };
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let problem: serde_json::Value = response.json().await.unwrap();
        assert_eq!(problem["type"], kind);
    }
    assert_eq!(platform.count().await, 1);
}

#[tokio::test]
async fn a_full_queue_refuses_new_tasks_until_there_is_room() {
    let platform = Platform::with(|config| config.orchestrator_max_queued_tasks = 2).await;
    let first = platform.submit().await;
    platform.submit().await;
    let response = platform.post("/tasks").json(&request()).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(platform.count().await, 2);

    platform.client.cancel(first).await.unwrap();
    crate::platform::until("there is room again", || async {
        platform.post("/tasks").json(&request()).send().await.unwrap().status() == StatusCode::ACCEPTED
    })
    .await;
}

#[tokio::test]
async fn a_closed_record_is_told_as_unavailable() {
    let platform = Platform::start().await;
    let task = platform.submit().await;
    platform.state.close().await;
    for request in [platform.post("/tasks").json(&request()), platform.get(&format!("/tasks/{task}"))] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key("retry-after"));
    }
}

#[tokio::test]
async fn pictures_go_along_with_the_request_and_belong_to_its_key() {
    let platform = Platform::start().await;
    let image = |url: &str| wire::ImageBody { url: url.to_owned(), media_type: Some("image/png".to_owned()) };
    let with = SubmitTask { images: vec![image("https://example.com/a.png")], ..keyed("pictures") };
    let first = platform.client.submit(&with).await.unwrap();
    let steps = platform.client.whole_journal(first.task.id).await.unwrap();
    let domain::StepBody::Input(input) = &steps[0].0.body else { panic!("the input") };
    assert_eq!(input.images[0].url, "https://example.com/a.png");

    let same = InputBody { images: with.images.clone(), ..InputBody::new("hello") };
    let same = SubmitTask { prompt: None, images: Vec::new(), input: Some(same), ..with.clone() };
    assert_eq!(platform.client.submit(&same).await.unwrap().task.id, first.task.id);
    let other = SubmitTask { images: vec![image("https://example.com/b.png")], ..with.clone() };
    let error = platform.client.submit(&other).await.unwrap_err();
    assert_eq!(error.problem().map(client::Problem::slug), Some("idempotency-mismatch"));

    for (body, pointer) in [
        (
            json!({ "agent": "writer", "prompt": "x", "images": [{ "url": "http://example.com/a.png" }] }),
            "/images/0/url",
        ),
        (
            json!({ "agent": "writer", "input": { "prompt": "x", "images": [{ "url": "data:," }] } }),
            "/input/images/0/url",
        ),
        (json!({ "agent": "writer", "input": { "prompt": "x" }, "images": [{ "url": "artifact:a" }] }), "/input"),
    ] {
        let (status, problem) = answer(platform.post("/tasks").json(&body)).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (StatusCode::BAD_REQUEST, &json!(pointer)));
    }
}
