//! The real program: with real NATS and RabbitMQ, without them, and with wrong settings.

use std::sync::Arc;
use std::time::Duration;

use bus::Received;
use common::config::{LoadOptions, load};
use connect::platform::{self, RabbitmqSettings};
use domain::{
    AgentName, AgentSpec, EventBody, ExecutionMode, Ids as _, Namespace, NewTask, PoolPhase, ReadyTask, SystemIds,
    TaskId, TaskInput, TaskStatus,
};
use futures::StreamExt as _;
use serde_json::json;
use state::agents::Agents;
use tokio::time::Instant;

use crate::backends::Backends;
use crate::process::{PATIENCE, Process, assert_settings_are_documented, finish, free_address};

const BINARY: &str = env!("CARGO_BIN_EXE_agent-pool");

#[test]
fn wrong_settings_end_it_with_2_and_are_all_told() {
    let (code, _, stderr) = finish(BINARY, &[], &[("AGENT_POOL_MODE", "x"), ("RABBITMQ_PREFETCH_COUNT", "0")]);
    assert_eq!(code, Some(2));
    for told in ["AGENT_POOL_MODE", "RABBITMQ_PREFETCH_COUNT"] {
        assert!(stderr.contains(told), "{told}: {stderr}");
    }
    // What two settings say together is looked at when each of them is right.
    let (code, _, stderr) = finish(BINARY, &[], &[("AGENT_DRAIN_TIMEOUT", "1h")]);
    assert!(code == Some(2) && stderr.contains("AGENT_SHUTDOWN_TIMEOUT"), "{stderr}");
    let (code, stdout, _) = finish(BINARY, &["--print-config"], &[("RABBITMQ_PASSWORD", "canary")]);
    assert!(code == Some(0) && !stdout.contains("canary") && stdout.contains("rabbitmq_password"), "{stdout}");
}

#[test]
fn every_setting_is_documented() {
    assert_settings_are_documented(BINARY);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_backends_it_starts_and_says_which_are_missing() {
    let (dir, address, nowhere) = (tempfile::tempdir().expect("a folder"), free_address(), free_address());
    let nats = format!("nats://{nowhere}");
    let port = nowhere.split_once(':').expect("a port").1;
    let settings = [
        ("AGENT_POOL_ADDRESS", address.as_str()),
        ("NATS_URL", &nats),
        ("RABBITMQ_PORT", port),
        ("AGENTRUNNER_PROBE", "false"),
    ];
    let process = Process::start(BINARY, &address, &settings, &dir.path().join("log")).await;
    let checks = process.until("/health/ready", |status, _| status == 503).await;
    for name in ["nats", "rabbitmq", "state"] {
        assert_eq!(checks[name]["status"], "down", "{checks}");
    }
    assert_eq!(finish(BINARY, &["healthcheck"], &settings).0, Some(1));
    assert_eq!(finish(BINARY, &["healthcheck", "live"], &settings).0, Some(0));
    assert_eq!(process.stop().await, Some(0));
}

fn task(id: TaskId, now: domain::Timestamp) -> NewTask {
    NewTask {
        id,
        namespace: Namespace::default(),
        idempotency_key: None,
        digest: [0; 32],
        agent: AgentName::new("worker").expect("a name"),
        agent_version: 1,
        mode: ExecutionMode::Collaborative,
        input: TaskInput::new("go".to_owned()),
        priority: 5,
        created_at: now,
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

/// The queue, as another process of the platform has it.
fn queue(backends: &Backends) -> platform::Queue {
    let options = LoadOptions::default();
    let options = backends.settings.iter().fold(options, |options, (name, value)| options.with(name, value));
    let settings: RabbitmqSettings = load(&options).expect("the settings are right");
    platform::queue(&settings, "test", false)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_takes_tasks_from_rabbitmq_runs_them_over_nats_and_tells_of_itself() {
    let backends = Backends::start().await;
    let scripts = backends.dir.path().join("scripts");
    std::fs::create_dir(&scripts).expect("a folder");
    std::fs::write(scripts.join("worker.yml"), "turns: [{text: done}]\n").expect("a dialogue");
    let agents = Agents::new(Arc::clone(&backends.state), Arc::clone(&backends.clock));
    let spec: AgentSpec = serde_json::from_value(
        json!({ "name": "worker", "model": "scripted/worker", "execution_mode": "collaborative" }),
    )
    .expect("an agent");
    agents.publish(&Namespace::default(), spec).await.expect("published");
    let mut events = backends.messages.events.subscribe_control().await.expect("events");

    let address = free_address();
    let settings = backends.with(&[("AGENT_POOL_ADDRESS", &address), ("AGENT_POOL_MODE", "collaborative")]);
    let process = Process::start(BINARY, &address, &settings, &backends.dir.path().join("log")).await;
    process.until("/health/ready", |status, _| status == 200).await;
    assert_eq!(finish(BINARY, &["healthcheck"], &settings).0, Some(0));

    let id = TaskId(SystemIds.uuid());
    backends.state.submit(task(id, backends.clock.now())).await.expect("recorded");
    let queue = queue(&backends);
    let ready = ReadyTask { task: id, mode: ExecutionMode::Collaborative, priority: 5 };
    let deadline = Instant::now() + PATIENCE;
    while queue.queue.announce(&[ready]).await.is_err() {
        assert!(Instant::now() < deadline, "the task cannot be announced");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    loop {
        let found = backends.state.task(&Namespace::default(), id).await.expect("the record answers");
        if found.is_some_and(|task| task.status == TaskStatus::Succeeded) {
            break;
        }
        assert!(Instant::now() < deadline, "the task does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let stopped = tokio::spawn(process.stop());
    let mut most = 0;
    loop {
        let received =
            tokio::time::timeout(PATIENCE, events.next()).await.expect("reports").expect("the stream goes on");
        let Received::Event(event) = received else { continue };
        let EventBody::PoolReport { report } = &event.body else { continue };
        assert_eq!((report.mode, report.capacity), (ExecutionMode::Collaborative, 256));
        most = most.max(report.succeeded);
        if report.phase == PoolPhase::Stopped {
            assert_eq!(report.agents.len(), 1, "{report:?}");
            break;
        }
    }
    assert_eq!(most, 1);
    assert_eq!(stopped.await.expect("it ends"), Some(0));
    queue.close().await;
}
