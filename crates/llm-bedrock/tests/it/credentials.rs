//! Credentials of every kind lead to a signature that the server accepts; it checks each.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{Clock, Timestamp};
use llm::LlmError;
use llm_bedrock::{ApiKey, Bedrock, BedrockConfig};
use testkit::fake_bedrock::{self as fake, KEY_ID, REGION, SECRET, STALE_KEY_ID, TOKEN};
use testkit::fake_http::FakeHttp;

use crate::support::{adapter, config, hear, request};

struct Stopped(Timestamp);

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        self.0
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// Credentials from a file with profiles.
fn from_profile(server: &FakeHttp, file: PathBuf) -> BedrockConfig {
    BedrockConfig {
        keys: None,
        region: None,
        profile: Some("work".to_owned()),
        profile_file: Some(file),
        ..config(server.base_url())
    }
}

#[tokio::test]
async fn a_request_is_signed_with_the_given_keys_for_its_region_and_moment() {
    let server = fake::start().await;
    let at: DateTime<Utc> = "2026-03-01T12:34:56Z".parse().unwrap();
    let model = Bedrock::with_clock(config(server.base_url()), Arc::new(Stopped(at))).await.unwrap();
    hear(&model, &request()).await.1.unwrap();
    let seen = &server.requests()[0];
    assert_eq!(seen.header("x-amz-date"), Some("20260301T123456Z"));
    let signed = format!("AWS4-HMAC-SHA256 Credential={KEY_ID}/20260301/{REGION}/bedrock/aws4_request, ");
    assert!(seen.header("authorization").is_some_and(|told| told.starts_with(&signed)), "{seen:?}");
    assert_eq!(seen.header("x-amz-security-token"), None);
}

#[tokio::test]
async fn a_session_token_is_sent_and_signed() {
    let server = fake::start().await;
    let mut session = config(server.base_url());
    session.keys.as_mut().expect("set before").session_token = Some(ApiKey::new(TOKEN));
    hear(&adapter(session).await, &request()).await.1.unwrap();
    assert_eq!(server.requests()[0].header("x-amz-security-token"), Some(TOKEN));
}

#[tokio::test]
async fn a_wrong_key_is_refused_by_the_server_and_not_tried_again() {
    let server = fake::start().await;
    let mut wrong = config(server.base_url());
    wrong.keys.as_mut().expect("set before").secret_access_key = ApiKey::new("another");
    let (_, answer) = hear(&adapter(wrong).await, &request()).await;
    assert!(matches!(answer, Err(LlmError::Refused { .. })), "{answer:?}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_profile_gives_region_and_keys() {
    let server = fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    let profile =
        format!("[profile work]\nregion = {REGION}\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n");
    fs::write(&file, profile).unwrap();
    let model = adapter(from_profile(&server, file)).await;
    hear(&model, &request()).await.1.unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn credentials_that_have_become_stale_are_fetched_anew_once() {
    let server = fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (file, answer) = (folder.path().join("config"), folder.path().join("answer.json"));
    let process = format!("[profile work]\nregion = {REGION}\ncredential_process = cat {}\n", answer.display());
    fs::write(&file, process).unwrap();
    let keys = |id: &str| {
        let told = format!(r#"{{"Version":1,"AccessKeyId":"{id}","SecretAccessKey":"{SECRET}"}}"#);
        fs::write(&answer, told).unwrap();
    };
    keys(KEY_ID);
    let model = adapter(from_profile(&server, file)).await;
    hear(&model, &request()).await.1.unwrap();
    fs::write(&answer, "not asked again").unwrap();
    hear(&model, &request()).await.1.unwrap();
    assert_eq!(server.requests().len(), 2, "credentials are kept");

    // The service no longer takes what is kept; by now the process gives other keys, which are stale as well.
    let stale = fake::error(403, "ExpiredTokenException", "The security token included in the request is expired");
    server.push(stale);
    keys(STALE_KEY_ID);
    let (_, answer) = hear(&model, &request()).await;
    assert!(matches!(answer, Err(LlmError::Refused { .. })), "{answer:?}");
    assert_eq!(server.requests().len(), 4, "once more and not for ever");

    keys(KEY_ID);
    hear(&model, &request()).await.1.unwrap();
    assert_eq!(server.requests().len(), 6, "stale, then fresh");
}

#[tokio::test]
async fn a_process_that_gives_no_credentials_is_told_without_its_words() {
    let server = fake::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    let failing = format!("[profile work]\nregion = {REGION}\ncredential_process = echo canary\n");
    fs::write(&file, failing).unwrap();
    let mut hasty = from_profile(&server, file);
    hasty.max_retries = 0;
    let error = hear(&adapter(hasty).await, &request()).await.1.unwrap_err();
    assert!(error.to_string().contains("AWS c") && !format!("{error} {error:?}").contains("canary"), "{error:?}");
    assert_eq!(server.requests().len(), 0);
}

const ENDPOINT: &str = "AGENTRUNNER_TEST_BEDROCK_ENDPOINT";

/// Runs a test of this binary in a process with another environment.
fn in_environment(test: &str, variables: &[(&str, &str)]) {
    let mut command = Command::new(std::env::current_exe().expect("the path of this test"));
    command.args(["--exact", test, "--ignored", "--nocapture"]).env("AWS_EC2_METADATA_DISABLED", "true");
    command.env("HOME", "/nonexistent").envs(variables.iter().copied());
    let output = command.output().expect("a child process");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn the_environment_gives_region_and_keys() {
    let server = fake::start().await;
    let variables = [
        (ENDPOINT, server.base_url()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_ACCESS_KEY_ID", KEY_ID.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ("AWS_SESSION_TOKEN", TOKEN.to_owned()),
    ];
    let child = tokio::task::spawn_blocking(move || {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        in_environment("credentials::asks_with_what_the_environment_gives", &variables);
    });
    child.await.unwrap();
    assert_eq!(server.requests()[0].header("x-amz-security-token"), Some(TOKEN));
}

#[tokio::test]
async fn an_environment_without_credentials_is_told_what_to_do() {
    let child = tokio::task::spawn_blocking(|| {
        in_environment("credentials::finds_nothing_in_the_environment", &[("AWS_REGION", REGION)]);
    });
    child.await.unwrap();
}

#[tokio::test]
#[ignore = "runs in a child process, with an environment of its own"]
async fn asks_with_what_the_environment_gives() {
    let Ok(endpoint) = std::env::var(ENDPOINT) else { return };
    let bare = BedrockConfig { keys: None, region: None, ..config(endpoint) };
    hear(&adapter(bare).await, &request()).await.1.unwrap();
}

#[tokio::test]
#[ignore = "runs in a child process, with an environment of its own"]
async fn finds_nothing_in_the_environment() {
    if std::env::var("AWS_EC2_METADATA_DISABLED").is_err() {
        return;
    }
    let bare = BedrockConfig { keys: None, region: None, ..config("http://127.0.0.1:1".to_owned()) };
    let error = hear(&adapter(bare).await, &request()).await.1.unwrap_err();
    assert!(error.to_string().contains("no AWS credentials are found"), "{error}");
}
