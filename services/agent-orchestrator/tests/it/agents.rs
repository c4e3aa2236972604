//! Agents, models, figures.

use domain::{Namespace, TaskStatus};
use reqwest::StatusCode;
use serde_json::{Value, json};
use wire::AgentStatus;

use crate::platform::{Platform, answer, until, writer};
use crate::worker::Run;

/// A claim is answered before it is committed.
async fn claimed(platform: &Platform) -> bool {
    platform.state.stats(None).await.unwrap().tasks.get(&TaskStatus::Running) == Some(&1)
}

#[tokio::test]
async fn agents_are_a_plain_array_by_name_with_their_work() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    platform.submit().await;
    let _run = Run::of(&platform, id).await;
    until("the claim is committed", || claimed(&platform)).await;
    let (_, list) = answer(platform.get("/agents")).await;
    let names: Vec<_> = list.as_array().unwrap().iter().map(|agent| agent["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["reader", "writer"]);
    let agents = platform.client.agents().await.unwrap();
    assert_eq!((agents[0].status, agents[1].status), (AgentStatus::Idle, AgentStatus::Busy));
    assert_eq!((agents[1].running, agents[1].queued, agents[1].version), (1, 1, 1));
    assert_eq!(platform.client.agent(&writer()).await.unwrap(), agents[1]);
}

#[tokio::test]
async fn a_new_version_is_shown_and_a_withdrawn_agent_is_not() {
    let platform = Platform::start().await;
    platform.publish(json!({ "name": "writer", "description": "Writes better" })).await;
    platform.agents.withdraw(&Namespace::default(), &"reader".parse().unwrap()).await.unwrap();
    let agents = platform.client.agents().await.unwrap();
    assert_eq!(agents.len(), 1);
    assert_eq!((agents[0].version, agents[0].description.as_str()), (2, "Writes better"));
    let (status, problem) = answer(platform.get("/agents/reader")).await;
    assert_eq!((status, &problem["type"]), (StatusCode::NOT_FOUND, &json!("/errors/unknown-agent")));
}

#[tokio::test]
async fn figures_and_models_are_shown() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    platform.submit().await;
    let _run = Run::of(&platform, id).await;
    until("the claim is committed", || claimed(&platform)).await;
    let stats = platform.client.pool_stats().await.unwrap();
    assert_eq!((stats.leases, stats.busy_workers, stats.pools.len()), (1, 1, 3));
    assert_eq!(stats.pools[0].queued, 1);
    assert_eq!(platform.client.models().await.unwrap(), []);
    assert!(platform.client.healthy().await);
    assert_eq!(platform.client.ready().await.unwrap()["state"]["status"], "up");
}

#[tokio::test]
async fn metrics_count_what_was_submitted() {
    let platform = Platform::start().await;
    let text = platform.get("/metrics").send().await.unwrap();
    // Whether a recorder is installed is up to the process; the page exists in any case.
    assert_eq!(text.status(), StatusCode::OK);
    let live: Value = platform.get("/health/live").send().await.unwrap().json().await.unwrap();
    assert_eq!(live, json!({ "status": "alive" }));
}
