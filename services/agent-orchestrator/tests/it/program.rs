//! The real program: with real NATS and RabbitMQ, without them, and with wrong settings.

use std::sync::Arc;
use std::time::Duration;

use domain::{
    AgentSpec, Durations, Event, EventBody, ExecutionMode, Ids as _, Namespace, PoolPhase, PoolReport, SystemIds,
    WorkerId,
};
use serde_json::json;
use state::agents::Agents;

use crate::backends::Backends;
use crate::process::{Process, assert_settings_are_documented, finish, free_address};

const BINARY: &str = env!("CARGO_BIN_EXE_agent-orchestrator");

#[test]
fn wrong_settings_end_it_with_2_and_are_all_told() {
    let settings = [("AGENT_LEASE", "banana"), ("ORCHESTRATOR_ADRESS", "x"), ("HTTP_ALLOWED_HOSTS", "http://x")];
    let (code, _, stderr) = finish(BINARY, &[], &settings);
    assert_eq!(code, Some(2));
    for told in ["AGENT_LEASE", "did you mean ORCHESTRATOR_ADDRESS?", "HTTP_ALLOWED_HOSTS"] {
        assert!(stderr.contains(told), "{told}: {stderr}");
    }
    let (code, stdout, _) = finish(BINARY, &["--print-config"], &[("OPENAI_API_KEY", "canary")]);
    assert!(code == Some(0) && !stdout.contains("canary") && stdout.contains("openai_api_key"), "{stdout}");
}

#[test]
fn every_setting_is_documented() {
    assert_settings_are_documented(BINARY);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_backends_it_starts_and_says_which_are_missing() {
    let (dir, address, nowhere) = (tempfile::tempdir().unwrap(), free_address(), free_address());
    let nats = format!("nats://{nowhere}");
    let port = nowhere.split_once(':').unwrap().1;
    let settings = [
        ("ORCHESTRATOR_ADDRESS", address.as_str()),
        ("NATS_URL", &nats),
        ("RABBITMQ_PORT", port),
        ("AGENTRUNNER_PROBE", "false"),
        ("HTTP_ALLOWED_HOSTS", "agent-orchestrator"),
    ];
    let process = Process::start(BINARY, &address, &settings, &dir.path().join("log")).await;
    let checks = process.until("/health/ready", |status, _| status == 503).await;
    for name in ["nats", "rabbitmq", "state"] {
        assert_eq!(checks[name]["status"], "down", "{checks}");
    }
    assert_eq!(finish(BINARY, &["healthcheck"], &settings).0, Some(1));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for (host, status) in [("agent-orchestrator:8003", 200), ("evil.example", 421)] {
        let answer = http.get(process.url("/health/live")).header("host", host).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{host}");
    }
    assert_eq!(process.stop().await, Some(0));
}

fn report(phase: PoolPhase) -> PoolReport {
    let mut recent = Durations::default();
    recent.add(Duration::from_millis(100));
    PoolReport {
        worker: WorkerId(SystemIds.uuid()),
        host: "pool-1".to_owned(),
        version: "0".to_owned(),
        mode: ExecutionMode::Continuous,
        phase,
        started_at: "2026-05-09T12:00:00Z".parse().unwrap(),
        capacity: 16,
        running: 3,
        missed: 0,
        succeeded: 7,
        failed: 1,
        cancelled: 0,
        parked: 0,
        retried: 0,
        given_back: 0,
        recent,
        recent_seconds: 10.0,
        agents: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_records_tasks_over_nats_and_shows_the_pools_that_tell_of_themselves() {
    let backends = Backends::start().await;
    let agents = Agents::new(Arc::clone(&backends.state), Arc::clone(&backends.clock));
    let spec: AgentSpec = serde_json::from_value(json!({ "name": "writer" })).unwrap();
    agents.publish(&Namespace::default(), spec).await.unwrap();
    let address = free_address();
    let settings = backends.with(&[("ORCHESTRATOR_ADDRESS", &address)]);
    let process = Process::start(BINARY, &address, &settings, &backends.dir.path().join("log")).await;
    process.until("/health/ready", |status, checks| status == 200 && checks["rabbitmq"]["status"] == "up").await;
    assert_eq!(finish(BINARY, &["healthcheck"], &settings).0, Some(0));

    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let submitted = http
        .post(process.url("/tasks"))
        .json(&json!({ "agent": "writer", "input": { "prompt": "hello" } }))
        .send()
        .await
        .unwrap();
    assert_eq!(submitted.status().as_u16(), 202);
    let told = process.until("/metrics/pool-stats", |_, stats| stats["pools"][0]["queue_depth"] == 1).await;
    assert_eq!(told["tasks"]["queued"], 1);

    let (running, publish) = (report(PoolPhase::Running), |report: PoolReport| {
        let body = EventBody::PoolReport { report: Box::new(report) };
        backends.messages.events.publish(Event { namespace: Namespace::default(), body });
    });
    publish(running.clone());
    let of_mode = |stats: &serde_json::Value| {
        let pools = stats["pools"].as_array().cloned().unwrap_or_default();
        pools.into_iter().find(|pool| pool["execution_mode"] == "continuous").unwrap_or_default()
    };
    let stats = process
        .until("/metrics/pool-stats", |_, stats| {
            publish(running.clone());
            of_mode(stats)["workers"][0]["host"] == "pool-1"
        })
        .await;
    let pool = of_mode(&stats);
    assert_eq!(
        (&pool["capacity"], &pool["running"], &pool["done"], &pool["failed"]),
        (&json!(16), &json!(3), &json!(7), &json!(1))
    );
    assert_eq!(pool["rate_per_second"], 0.1);
    assert!((88..=113).contains(&pool["p50_ms"].as_u64().unwrap()), "{pool}");
    publish(PoolReport { phase: PoolPhase::Stopped, ..running });
    process.until("/metrics/pool-stats", |_, stats| of_mode(stats)["workers"] == json!([])).await;

    // No autonomous pool has told of itself, and nobody can say which tool servers there are.
    process.until("/agents", |_, agents| agents[0]["status"] == "degraded").await;
    let (status, problem) = process.get("/tools").await;
    assert_eq!((status, &problem["type"]), (503, &json!("/errors/unavailable")), "{problem}");
    assert_eq!(process.stop().await, Some(0));
}
