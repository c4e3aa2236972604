//! Servers over HTTP.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tools::servers::{MemoryPins, ToolServers as _};
use tools_mcp::{LoginError, McpTools, ToolsFile};

use crate::remote::{Manners, Remote};
use crate::support::{World, options};

fn declared(remote: &Remote, settings: Value) -> Value {
    let mut server = json!({ "url": remote.url(), "allow_private": true });
    if let (Some(server), Value::Object(settings)) = (server.as_object_mut(), settings) {
        server.extend(settings);
    }
    json!({ "servers": { "far": server } })
}

async fn world(manners: Manners) -> (Remote, World) {
    let remote = Remote::start(manners).await;
    let world = World::new(&declared(&remote, json!({}))).await;
    (remote, world)
}

#[tokio::test]
async fn a_server_answers_as_json_or_as_events() {
    for events in [false, true] {
        let (remote, world) = world(Manners { events, ..Manners::default() }).await;
        assert_eq!(world.call("far.echo", json!({ "a": 1 })).await.unwrap(), json!("{\"a\":1}"));
        let calls = remote.of("tools/call");
        assert_eq!(calls[0].header("mcp-protocol-version"), "2025-06-18");
        assert!(calls[0].header("accept").contains("text/event-stream"));
        let status = world.status("far").await;
        assert_eq!((status.transport.as_str(), status.target), ("http", remote.url()));
    }
}

#[tokio::test]
async fn a_session_goes_along_and_a_lost_one_is_begun_anew() {
    let (remote, world) = world(Manners { session_calls: Some(2), ..Manners::default() }).await;
    for n in 0..5 {
        assert_eq!(world.call("far.echo", json!({ "n": n })).await.unwrap(), json!(format!("{{\"n\":{n}}}")));
    }
    let sessions: Vec<String> =
        remote.of("tools/call").iter().map(|call| call.header("mcp-session-id").to_owned()).collect();
    assert!(sessions.contains(&"session-1".to_owned()) && sessions.contains(&"session-3".to_owned()), "{sessions:?}");
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_taken_up_after_its_last_event() {
    let (remote, world) = world(Manners { breaks_off: true, ..Manners::default() }).await;
    assert_eq!(world.call("far.echo", json!({})).await.unwrap(), json!("{}"));
    assert_eq!(remote.of("tools/call").len(), 1);
    assert!(remote.seen().iter().any(|seen| seen.header("last-event-id") == "1"));
}

#[tokio::test]
async fn what_is_no_message_or_too_much_of_one_is_an_error() {
    for garbage in [
        "<html>hello</html>".to_owned(),
        format!("\"{}\"", "x".repeat(17 * 1024 * 1024)),
        format!("[{}1]", "1,".repeat(1_500_000)),
    ] {
        let (_, world) = world(Manners { garbage: Some(garbage), ..Manners::default() }).await;
        assert_eq!(world.call("far.echo", json!({})).await.unwrap_err().code, "connection_lost");
    }
}

#[tokio::test]
async fn a_private_address_is_called_only_when_the_operator_says_so() {
    let remote = Remote::start(Manners::default()).await;
    let url = format!("https://{}/mcp", remote.address);
    let world = World::new(&json!({ "servers": { "far": { "url": url } } })).await;
    assert!(world.status("far").await.reason.unwrap().contains("not on the public internet"));
    assert!(remote.seen().is_empty());
}

#[tokio::test]
async fn a_redirect_to_another_server_is_not_followed_and_takes_no_header_along() {
    let other = Remote::start(Manners::default()).await;
    let remote = Remote::start(Manners { redirect: Some(other.url()), ..Manners::default() }).await;
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "Bearer canary-4711\n").unwrap();
    let world =
        World::new(&declared(&remote, json!({ "headers": { "Authorization": { "file": secret.path() } } }))).await;
    assert_eq!(remote.seen()[0].header("authorization"), "Bearer canary-4711");
    assert!(other.seen().is_empty());
    let reason = world.status("far").await.reason.unwrap();
    assert!(reason.contains("another server") && !reason.contains("canary"), "{reason}");
}

/// A browser that follows the authorization server's redirect back to us.
async fn allow(url: &str) -> reqwest::Response {
    reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap()
}

struct Wanted {
    remote: Remote,
    folder: tempfile::TempDir,
    tools: Arc<McpTools>,
}

impl Wanted {
    async fn new(manners: Manners, oauth: Value) -> Self {
        let remote = Remote::start(Manners { token: true, ..manners }).await;
        let folder = tempfile::tempdir().unwrap();
        let tools = Self::tools(&declared(&remote, json!({ "oauth": oauth })), &folder).await;
        Self { remote, folder, tools }
    }

    async fn tools(file: &Value, folder: &tempfile::TempDir) -> Arc<McpTools> {
        let file = ToolsFile::parse("tools.yml", file.to_string().as_bytes()).unwrap();
        let mut options = options(&(Arc::new(MemoryPins::default()) as Arc<_>));
        options.tokens = folder.path().join("tokens.json");
        McpTools::declare(file, &options).await.unwrap()
    }
}

#[tokio::test]
async fn a_person_allows_a_token_which_is_kept_for_this_server_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let wanted = Wanted::new(Manners::default(), json!({})).await;
    let refused = wanted.tools.refresh("far").await.unwrap_err().to_string();
    assert!(refused.contains("agentrunner tools login far"), "{refused}");

    let login = wanted.tools.login("far").await.unwrap().expect("a page to open");
    let url = login.url().to_owned();
    let finished = tokio::spawn(login.finish());
    // Somebody else's answer, and one that was not asked for, change nothing.
    let state =
        url::Url::parse(&url).unwrap().query_pairs().find(|(name, _)| name == "redirect_uri").unwrap().1.into_owned();
    assert_eq!(allow(&format!("{state}?code=code-1&state=forged")).await.status(), 400);
    assert_eq!(allow(&url).await.status(), 200);
    finished.await.unwrap().unwrap();

    let file = wanted.folder.path().join("tokens.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = Wanted::tools(&declared(&wanted.remote, json!({ "oauth": {} })), &wanted.folder).await;
    assert_eq!(again.refresh("far").await.unwrap().tools.len(), 1);

    // Another address under the same name is another server.
    let other = Remote::start(Manners { token: true, ..Manners::default() }).await;
    let others = Wanted::tools(&declared(&other, json!({ "oauth": {} })), &wanted.folder).await;
    assert!(others.refresh("far").await.is_err());
    assert!(!other.seen().is_empty());
    assert!(other.seen().iter().all(|seen| seen.header("authorization").is_empty()));
}

#[tokio::test]
async fn the_platform_gets_its_own_token_where_nobody_needs_to_allow_it() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "canary-secret").unwrap();
    let oauth =
        json!({ "grant": "client_credentials", "client_id": "robot", "client_secret": { "file": secret.path() } });
    let wanted = Wanted::new(Manners::default(), oauth).await;
    assert_eq!(wanted.tools.refresh("far").await.unwrap().tools.len(), 1);
    assert!(wanted.remote.seen().iter().any(|seen| seen.path == "/token" && seen.method == "POST"));
}

#[tokio::test]
async fn an_answer_of_another_authorization_server_is_refused() {
    let iss = Some("https://evil.example".to_owned());
    let wanted = Wanted::new(Manners { iss, ..Manners::default() }, json!({})).await;
    let login = wanted.tools.login("far").await.unwrap().unwrap();
    let url = login.url().to_owned();
    let finished = tokio::spawn(login.finish());
    allow(&url).await;
    assert!(matches!(finished.await.unwrap(), Err(LoginError::Failed(_))));
    assert!(wanted.remote.seen().iter().all(|seen| seen.path != "/token"));
}

#[tokio::test]
async fn metadata_that_names_other_places_is_refused() {
    for (field, lie) in [
        ("authorization_servers", json!(["http://169.254.169.254"])),
        ("authorization_servers", json!(["http://127.0.0.1:1"])),
        ("authorization_servers", json!(["file:///etc/passwd"])),
        ("authorization_endpoint", json!("javascript:alert(1)")),
        ("authorization_endpoint", json!("file:///etc/passwd")),
        ("authorization_endpoint", json!("http://example.com/authorize")),
        ("resource", json!("https://other.example/mcp")),
    ] {
        let lies = HashMap::from([(field, lie.clone())]);
        let wanted = Wanted::new(Manners { lies, ..Manners::default() }, json!({})).await;
        let login = wanted.tools.login("far").await;
        assert!(login.is_err(), "{field} {lie}");
    }
}
