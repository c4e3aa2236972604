//! The description of the API, checked in so that a change of it is seen.

use std::path::Path;

use serde_json::Value;

use crate::platform::Platform;

#[tokio::test]
async fn the_checked_in_description_is_the_one_that_is_served() {
    let platform = Platform::start().await;
    let served: Value = platform.get("/openapi.json").send().await.unwrap().json().await.unwrap();
    let served = sorted(served);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi/agent-orchestrator.json");
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, serde_json::to_string_pretty(&served).unwrap() + "\n").unwrap();
    }
    let checked_in: Value =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap_or_default()).unwrap_or_default();
    assert!(checked_in == served, "{} is out of date: run this test with UPDATE_OPENAPI=1", file.display());
}

#[tokio::test]
async fn every_operation_and_every_body_is_described_with_an_example() {
    let platform = Platform::start().await;
    let api: Value = platform.get("/openapi.json").send().await.unwrap().json().await.unwrap();
    let paths = api["paths"].as_object().unwrap();
    for path in [
        "/tasks",
        "/queue/submit",
        "/tasks/{task_id}",
        "/tasks/{task_id}/journal",
        "/tasks/{task_id}/events",
        "/tasks/{task_id}/cancel",
        "/tasks/{task_id}/signal",
        "/tasks/{task_id}/retry",
        "/tasks/{task_id}/approvals",
        "/tasks/{task_id}/approvals/{call_id}",
        "/tasks/{task_id}/budget",
        "/tasks/{task_id}/artifacts",
        "/tasks/{task_id}/artifacts/{name}",
        "/approvals",
        "/budgets",
        "/dead-letters",
        "/agents",
        "/agents/{agent}",
        "/threads",
        "/threads/{thread_id}/messages",
        "/models",
        "/tools",
        "/tools/{server}/approve",
        "/metrics/pool-stats",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            assert!(operation["summary"].is_string(), "{method} {path} has no summary");
            assert!(operation["operationId"].is_string(), "{method} {path} has no id");
        }
    }
    let schemas = api["components"]["schemas"].as_object().unwrap();
    for body in [
        "SubmitTask",
        "TaskView",
        "JournalStep",
        "AgentView",
        "ThreadView",
        "MessageView",
        "SignalBody",
        "RetryBody",
        "PoolStats",
        "ModelView",
        "StatusEvent",
        "DeltaEvent",
        "RestartEvent",
        "ProgressEvent",
        "BudgetEvent",
        "WaitingFor",
        "ApprovalView",
        "DecideApproval",
        "BudgetView",
        "AccountView",
        "DecideBudget",
        "ArtifactView",
    ] {
        let schema = schemas.get(body).unwrap_or_else(|| panic!("{body} is not described"));
        assert!(schema.get("example").is_some() || schema.get("examples").is_some(), "{body} has no example");
    }
    let text = api.to_string();
    for reference in text.split("#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(schemas.contains_key(reference), "{reference} is referred to and not described");
    }
}

/// Keys in order, so that the file does not change by itself.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}
