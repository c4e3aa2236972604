//! The client against a server that misbehaves.

use std::time::Duration;

use client::{Client, ClientError, TaskEvent};
use domain::{AgentName, TaskId};
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use wire::SubmitTask;
use wiremock::matchers::{header, header_exists, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

const ID: &str = "0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10";

fn task_id() -> TaskId {
    ID.parse().expect("an id")
}

fn view(status: &str) -> serde_json::Value {
    json!({
        "id": ID, "agent": "writer", "agent_version": 1, "execution_mode": "autonomous", "status": status,
        "cancelling": false, "attempt": 0, "priority": 5, "created_at": "2026-03-01T12:00:00Z", "depth": 0,
        "usage": { "input_tokens": 1, "output_tokens": 2 }, "a_field_of_a_newer_server": true,
        "links": { "self": format!("/tasks/{ID}"), "journal": "", "events": "" }
    })
}

fn stream(body: String) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_raw(body, "text/event-stream")
}

fn delta(n: u32) -> String {
    let data = json!({ "seq": 1, "epoch": 1, "call": 1, "n": n, "text": n.to_string() });
    format!("event: task.delta\nid: 1-1-1-{n}\ndata: {data}\n\n")
}

fn status(status: &str) -> String {
    format!("event: task.status\ndata: {}\n\n", json!({ "id": ID, "status": status, "cancelling": false }))
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_taken_up_after_the_last_whole_event() {
    let server = MockServer::start().await;
    let events = || path(format!("/tasks/{ID}/events"));
    let first = format!("retry: 10\n\n{}{}event: task.delta\nid: 1-1-1-2\nda", status("running"), delta(1));
    Mock::given(method("GET")).and(events()).respond_with(stream(first)).up_to_n_times(1).mount(&server).await;
    let finished = format!("event: task.finished\nid: end\ndata: {}\n\n", view("succeeded"));
    let second = format!("{}event: of.a.newer.server\ndata: 1\n\n{}{finished}", status("running"), delta(2));
    Mock::given(method("GET"))
        .and(events())
        .and(header("last-event-id", "1-1-1-1"))
        .respond_with(stream(second))
        .expect(1)
        .mount(&server)
        .await;

    let told: Vec<_> = Client::new(&server.uri()).unwrap().events(task_id(), None).try_collect().await.unwrap();

    let texts: Vec<_> = told
        .iter()
        .map(|event| match event {
            TaskEvent::Status(status) => status.status.to_string(),
            TaskEvent::Delta(delta) => delta.text.clone(),
            TaskEvent::Finished(task) => format!("finished {}", task.status),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(texts, ["running", "1", "2", "finished succeeded"]);
}

#[tokio::test]
async fn a_refused_stream_ends_with_the_servers_problem() {
    let server = MockServer::start().await;
    let body = json!({ "type": "/errors/unknown-task", "title": "The task does not exist", "status": 404 });
    let refusal = ResponseTemplate::new(404).set_body_raw(body.to_string(), "application/problem+json");
    Mock::given(method("GET")).respond_with(refusal).expect(1).mount(&server).await;

    let told: Vec<_> = Client::new(&server.uri()).unwrap().events(task_id(), None).collect().await;

    let [Err(error)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(error.problem().unwrap().slug(), "unknown-task");
}

#[tokio::test]
async fn a_submit_with_a_key_is_repeated_until_the_platform_has_room() {
    let server = MockServer::start().await;
    let body = json!({ "type": "/errors/overloaded", "title": "There is more work than can be done", "status": 429 });
    let busy = ResponseTemplate::new(429).insert_header("retry-after", "0").set_body_json(body);
    let keyed = || Mock::given(method("POST")).and(path("/tasks")).and(header("idempotency-key", "k"));
    keyed().respond_with(busy.clone()).up_to_n_times(2).expect(2).mount(&server).await;
    keyed().respond_with(ResponseTemplate::new(202).set_body_json(view("queued"))).expect(1).mount(&server).await;
    Mock::given(method("POST")).respond_with(busy).expect(1).mount(&server).await;
    let client = Client::new(&server.uri()).unwrap();
    let task = SubmitTask::new(AgentName::new("writer").unwrap(), "hello");

    assert!(client.submit_with_key(&task, "k").await.unwrap().created);
    let refused = client.submit(&task).await.unwrap_err();
    assert_eq!(refused.status(), Some(429));
    assert!(refused.is_transient());
}

#[tokio::test]
async fn an_answer_of_something_else_is_told_as_such() {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .and(header_exists("accept"))
        .respond_with(ResponseTemplate::new(502).set_body_raw("<html>Bad gateway</html>", "text/html"))
        .mount(&server)
        .await;
    let client = Client::new(&server.uri()).unwrap();
    assert!(matches!(client.agents().await, Err(ClientError::NotUnderstood { .. })));
    assert!(!client.healthy().await);
}

#[tokio::test]
async fn a_wait_asks_again_until_the_task_has_ended() {
    let server = MockServer::start().await;
    let get = || Mock::given(method("GET")).and(path(format!("/tasks/{ID}")));
    let answer = |status| ResponseTemplate::new(200).set_body_json(view(status));
    get().respond_with(answer("running")).up_to_n_times(2).expect(2).mount(&server).await;
    get().respond_with(answer("failed")).expect(1).mount(&server).await;
    let client = Client::new(&server.uri()).unwrap();
    let task = client.wait(task_id(), Duration::from_secs(60)).await.unwrap();
    assert_eq!(task.status, domain::TaskStatus::Failed);
}
