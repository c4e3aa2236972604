//! The real program: with a record over real NATS, without any, and with wrong settings.

use std::sync::Arc;

use bus::Received;
use domain::{AgentName, EventBody, Namespace};
use futures::StreamExt as _;
use state::agents::Agents;

use crate::backends::Backends;
use crate::process::{PATIENCE, Process, assert_settings_are_documented, finish, free_address};

const BINARY: &str = env!("CARGO_BIN_EXE_config-service");

#[test]
fn wrong_settings_end_it_with_2_and_are_all_told() {
    let settings = [("CONFIG_SERVICE_POLL_INTERVAL", "1ms"), ("NATS_USER", "me"), ("CONFIG_SERVICE_ADRESS", "x")];
    let (code, _, stderr) = finish(BINARY, &[], &settings);
    assert_eq!(code, Some(2));
    for told in ["CONFIG_SERVICE_POLL_INTERVAL", "NATS_PASSWORD", "did you mean CONFIG_SERVICE_ADDRESS?"] {
        assert!(stderr.contains(told), "{told}: {stderr}");
    }
    let settings = [("NATS_USER", "me"), ("NATS_PASSWORD", "canary")];
    let (code, stdout, _) = finish(BINARY, &["--print-config"], &settings);
    assert!(code == Some(0) && !stdout.contains("canary") && stdout.contains("nats_password"), "{stdout}");
}

#[test]
fn every_setting_is_documented() {
    assert_settings_are_documented(BINARY);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_backends_it_starts_and_says_which_are_missing() {
    let (dir, address, nowhere) = (tempfile::tempdir().expect("a folder"), free_address(), free_address());
    let nats = format!("nats://{nowhere}");
    let settings = [("CONFIG_SERVICE_ADDRESS", address.as_str()), ("NATS_URL", &nats)];
    let process = Process::start(BINARY, &address, &settings, &dir.path().join("log")).await;
    let checks = process.until("/health/ready", |status, _| status == 503).await;
    for name in ["nats", "state", "agents"] {
        assert_eq!(checks[name]["status"], "down", "{checks}");
    }
    assert_eq!(finish(BINARY, &["healthcheck"], &settings).0, Some(1));
    assert_eq!(finish(BINARY, &["healthcheck", "live"], &settings).0, Some(0));
    assert_eq!(process.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_publishes_what_is_in_its_folder_into_a_record_over_nats() {
    let backends = Backends::start().await;
    let folder = backends.dir.path().join("agents");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("writer.yml"), "name: writer\n").expect("a file");
    let mut events = backends.messages.events.subscribe_control().await.expect("events");
    let address = free_address();
    let settings =
        backends.with(&[("CONFIG_SERVICE_ADDRESS", &address), ("AGENT_CONFIG_DIR", folder.to_str().expect("plain"))]);
    let process = Process::start(BINARY, &address, &settings, &backends.dir.path().join("log")).await;
    process.until("/health/ready", |status, _| status == 200).await;
    assert_eq!(finish(BINARY, &["healthcheck"], &settings).0, Some(0));
    let agents = Agents::new(Arc::clone(&backends.state), Arc::clone(&backends.clock));
    let name = AgentName::new("writer").expect("a name");
    let active = agents.active_now(&Namespace::default(), &name).await.expect("the record answers");
    assert_eq!(active.map(|version| version.version), Some(1));
    let told = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(Received::Event(event)) = events.next().await
                && let EventBody::AgentUpdated { version, .. } = event.body
            {
                return version;
            }
        }
    });
    assert_eq!(told.await, Ok(1));
    assert_eq!(process.stop().await, Some(0));
}
