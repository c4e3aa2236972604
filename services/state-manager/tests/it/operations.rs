//! What operators see.

use std::time::Duration;

use domain::{AgentName, ExecutionMode, Namespace, NewTask, TaskId, TaskInput, Timestamp};
use serde_json::json;
use uuid::Uuid;

use crate::service::{PATIENCE, Service};

pub(crate) fn new_task(number: u128, at: Timestamp) -> NewTask {
    NewTask {
        id: TaskId(Uuid::from_u128(number)),
        namespace: Namespace::default(),
        idempotency_key: None,
        digest: [0; 32],
        agent: AgentName::new("writer").unwrap(),
        agent_version: 1,
        mode: ExecutionMode::Autonomous,
        input: TaskInput::default(),
        priority: 5,
        created_at: at,
        run_at: None,
        expires_at: None,
        deadline: None,
        thread: None,
        user: None,
        parent: None,
        depth: 0,
        metadata: std::collections::BTreeMap::new(),
        trace: None,
        terms: domain::Terms::default(),
    }
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what} did not happen in time"));
}

#[tokio::test]
async fn the_service_says_how_it_is() {
    let service = Service::start().await;
    assert_eq!(service.get("/health/live").await.body, json!({"status": "alive"}));
    let ready = service.get("/health/ready").await;
    assert_eq!((ready.status, &ready.body["state"]["status"]), (200, &json!("up")));
    service.state.close().await;
    until("readiness to end", async || service.get("/health/ready").await.status == 503).await;
    let failed = service.get("/states/notes/a").await;
    failed.is_problem(503, "unavailable");
    assert_eq!(failed.headers["retry-after"], "1");
    service.stop().await;
}

#[tokio::test]
async fn statistics_count_what_is_stored() {
    let service = Service::start().await;
    let now = "2026-05-09T12:00:00Z".parse().unwrap();
    for number in 1..=3 {
        service.state.submit(new_task(number, now)).await.unwrap();
    }
    service.state.cancel(&Namespace::default(), TaskId(Uuid::from_u128(3))).await.unwrap();
    service.put("/states/notes/a", &[], "1").await;
    let stats = service.get("/stats").await.body;
    assert_eq!((&stats["tasks"]["queued"], &stats["tasks"]["cancelled"]), (&json!(2), &json!(1)), "{stats}");
    assert_eq!(stats["active"], json!([{"agent": "writer", "status": "queued", "tasks": 2}]));
    assert_eq!((&stats["queued"]["autonomous"], &stats["values"]), (&json!(2), &json!(1)));
    assert!(stats["stored_bytes"].as_u64().unwrap() > 0);
    service.stop().await;
}

#[tokio::test]
async fn retention_deletes_ended_tasks_and_expired_values_and_nothing_else() {
    let service = Service::start().await;
    let (namespace, now) = (Namespace::default(), "2026-05-09T12:00:00Z".parse().unwrap());
    for number in 1..=10 {
        service.state.submit(new_task(number, now)).await.unwrap();
    }
    for number in 1..=9 {
        service.state.cancel(&namespace, TaskId(Uuid::from_u128(number))).await.unwrap();
    }
    for n in 0..5 {
        service.put(&format!("/states/notes/short-{n}?ttl=1h"), &[], "1").await;
    }
    service.put("/states/notes/long", &[], "1").await;
    service.clock.advance(Duration::from_hours(29 * 24));
    until("the values' deletion", async || service.get("/stats").await.body["values"] == 1).await;
    assert_eq!(service.get("/stats").await.body["tasks"]["cancelled"], 9, "a day is left");
    service.clock.advance(Duration::from_hours(2 * 24));
    until("the tasks' deletion", async || {
        service.get("/stats").await.body["tasks"].get("cancelled").is_none_or(|count| *count == 0)
    })
    .await;
    assert_eq!(service.get("/stats").await.body["tasks"]["queued"], 1, "a task that has not ended stays");
    assert_eq!(service.get("/states/notes/long").await.status, 200);
    service.stop().await;
}

#[tokio::test]
async fn every_operation_is_documented_with_its_errors() {
    let service = Service::start().await;
    let api = service.get("/openapi.json").await.body;
    let operations = &api["paths"]["/states/{scope}/{key}"];
    for (method, statuses) in [
        ("get", vec!["200", "304", "400", "404", "503", "default"]),
        ("put", vec!["200", "201", "400", "403", "412", "413", "415", "503", "default"]),
        ("delete", vec!["204", "400", "403", "404", "412", "503", "default"]),
    ] {
        let documented: Vec<&String> = operations[method]["responses"].as_object().unwrap().keys().collect();
        assert_eq!(documented, statuses, "{method}");
    }
    assert!(api["paths"]["/states/{scope}"]["get"].is_object() && api["paths"]["/stats"]["get"].is_object());
    assert_eq!(service.get("/docs/").await.status, 200);
    service.stop().await;
}
