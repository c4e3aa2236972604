//! The real program: with its backends, without them, and with wrong settings.

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::process::{Process, assert_settings_are_documented, finish, free_address, parts};

const BINARY: &str = env!("CARGO_BIN_EXE_state-manager");

#[test]
fn wrong_settings_and_arguments_end_it_with_2_and_are_all_told() {
    let settings = [("POSTGRES_PORT", "banana"), ("NATS_URL", "http://x"), ("STATE_MANAGER_ADRESS", "x")];
    let (code, _, stderr) = finish(BINARY, &[], &settings);
    assert_eq!(code, Some(2));
    for told in ["POSTGRES_PORT", "NATS_URL", "did you mean STATE_MANAGER_ADDRESS?"] {
        assert!(stderr.contains(told), "{told}: {stderr}");
    }
    let (code, _, stderr) = finish(BINARY, &["migrate", "sideways"], &[]);
    assert_eq!((code, stderr.lines().count()), (Some(2), 1), "{stderr}");
}

#[test]
fn its_settings_are_printed_without_secrets() {
    let dir = tempdir().unwrap();
    let secret = dir.path().join("password");
    std::fs::write(&secret, "canary-1\n").unwrap();
    let settings =
        [("POSTGRES_PASSWORD_FILE", secret.to_str().unwrap()), ("NATS_USER", "me"), ("NATS_PASSWORD", "canary-2")];
    let (code, stdout, stderr) = finish(BINARY, &["--print-config"], &settings);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("postgres_password = \"***\"") && stdout.contains("nats_user = \"me\""), "{stdout}");
    assert!(!stdout.contains("canary") && !stderr.contains("canary"));
}

#[test]
fn every_setting_is_documented() {
    assert_settings_are_documented(BINARY);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_backends_it_starts_and_says_which_are_missing() {
    let (dir, address, nowhere) = (tempdir().unwrap(), free_address(), free_address());
    let nats = format!("nats://{nowhere}");
    let port = nowhere.split_once(':').unwrap().1;
    let settings = [("STATE_MANAGER_ADDRESS", address.as_str()), ("NATS_URL", &nats), ("POSTGRES_PORT", port)];
    let process = Process::start(BINARY, &address, &settings, &dir.path().join("log")).await;
    let checks = process.until("/health/ready", |status, _| status == 503).await;
    for name in ["nats", "postgres"] {
        assert_eq!(checks[name]["status"], "down", "{checks}");
        assert!(checks[name]["error"].is_string());
    }
    assert_eq!(finish(BINARY, &["healthcheck"], &settings).0, Some(1));
    assert_eq!(finish(BINARY, &["healthcheck", "live"], &settings).0, Some(0));
    assert_eq!(process.stop().await, Some(0));
    assert_eq!(finish(BINARY, &["healthcheck", "live"], &settings).0, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_its_backends_it_keeps_values_and_moves_the_schema() {
    let (postgres, nats) = (testkit::servers::postgres().await, testkit::servers::nats().await);
    let [user, password, host, port, database] = parts(&postgres.fresh_database().await);
    let [nats_user, nats_password, nats_host, nats_port, _] = parts(&nats.url());
    let (dir, address) = (tempdir().unwrap(), free_address());
    let (nats_url, prefix) = (format!("nats://{nats_host}:{nats_port}"), format!("t{}", std::process::id()));
    let settings = [
        ("STATE_MANAGER_ADDRESS", address.as_str()),
        ("POSTGRES_HOST", &host),
        ("POSTGRES_PORT", &port),
        ("POSTGRES_DB", &database),
        ("POSTGRES_USER", &user),
        ("POSTGRES_PASSWORD", &password),
        // A shared server of tests need not survive a power cut.
        ("DURABILITY", "relaxed"),
        ("NATS_URL", &nats_url),
        ("NATS_USER", &nats_user),
        ("NATS_PASSWORD", &nats_password),
        ("NATS_PREFIX", &prefix),
    ];
    let status = || finish(BINARY, &["migrate", "status"], &settings);
    let (code, before, stderr) = status();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(before.lines().all(|line| line.starts_with("missing")), "{before}");
    assert_eq!(finish(BINARY, &["migrate", "up"], &settings).0, Some(0));
    assert!(status().1.lines().all(|line| line.starts_with("applied")));
    assert_eq!(finish(BINARY, &["migrate", "down"], &settings).0, Some(0));
    assert_eq!(status().1.matches("missing").count(), 1, "one step at a time");

    let process = Process::start(BINARY, &address, &settings, &dir.path().join("log")).await;
    let checks = process.until("/health/ready", |status, _| status == 200).await;
    assert_eq!((&checks["nats"]["status"], &checks["postgres"]["status"]), (&json!("up"), &json!("up")));
    assert_eq!(finish(BINARY, &["healthcheck"], &settings).0, Some(0));
    assert!(status().1.lines().all(|line| line.starts_with("applied")), "it brought the schema up to date");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let put = http.put(process.url("/states/notes/a")).json(&json!({ "n": 1 })).send().await.unwrap();
    assert!(put.status().is_success(), "{put:?}");
    let (status, value): (u16, Value) = process.get("/states/notes/a").await;
    assert_eq!(status, 200, "{value}");
    assert_eq!(process.stop().await, Some(0));
}
