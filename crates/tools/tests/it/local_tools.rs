//! The tools that need nothing outside.

use domain::{Effect, HumanDuration, TaskInput};
use serde_json::{Value, json};
use tools::egress::EgressOptions;
use tools::{BuiltinOptions, ToolError, ToolReply, WaitOn, WaitRequest, builtin};

use crate::support::{Caller, now};

fn caller() -> Caller {
    let agent = json!({
        "name": "tester",
        "tools": ["ask", "delegate", "echo", "http_request", "now", "wait"],
        "delegates": ["writer", "critic"]
    });
    Caller::new(agent, EgressOptions::default())
}

async fn wait(tool: &str, arguments: Value) -> WaitRequest {
    match caller().call(tool, arguments).await {
        Ok(ToolReply::Wait(request)) => request,
        other => panic!("no wait: {other:?}"),
    }
}

async fn done(tool: &str, arguments: Value) -> Value {
    match caller().call(tool, arguments).await {
        Ok(ToolReply::Done(value)) => value,
        other => panic!("not done: {other:?}"),
    }
}

async fn refused(tool: &str, arguments: Value) -> ToolError {
    let error = caller().call(tool, arguments.clone()).await.err().unwrap_or_else(|| panic!("accepted: {arguments}"));
    assert_eq!(error.code, "invalid_arguments");
    error
}

/// Tells whether the schema lets the arguments through.
fn matches_schema(tool: &str, arguments: &Value) -> bool {
    builtin(BuiltinOptions::default()).for_agent(&caller().agent).check(tool, arguments).is_ok()
}

fn in_time(text: &str) -> domain::Timestamp {
    now() + chrono::Duration::from_std(text.parse::<HumanDuration>().expect("a duration").0).expect("small")
}

#[test]
fn only_http_request_has_an_effect() {
    for spec in builtin(BuiltinOptions::default()).for_agent(&caller().agent).specs() {
        let expected = if spec.name == "http_request" { Effect::Keyed } else { Effect::None };
        assert_eq!(spec.effect, expected, "{}", spec.name);
    }
}

#[tokio::test]
async fn echo_says_back_what_it_is_told() {
    assert_eq!(done("echo", json!({ "text": "hello" })).await, "hello");
    assert!(!matches_schema("echo", &json!({ "text": "a".repeat(65_537) })));
    assert!(!matches_schema("echo", &json!({ "text": 1 })));
}

#[tokio::test]
async fn now_tells_the_time_of_the_call() {
    assert_eq!(
        done("now", json!({ "timezone": "Europe/Berlin" })).await,
        json!({
            "time": "2030-01-31T10:00:00+01:00",
            "timezone": "Europe/Berlin",
            "weekday": "Thursday",
            "unix": 1_896_080_400
        })
    );
    assert_eq!(done("now", json!({})).await["time"], "2030-01-31T09:00:00Z");
    refused("now", json!({ "timezone": "Mars/Olympus" })).await;
}

#[tokio::test]
async fn wait_ends_after_a_length_or_at_a_moment() {
    let timer = |at| WaitRequest { on: WaitOn::Timer { at }, expires_at: None, default: None };
    assert_eq!(wait("wait", json!({ "for": "1h30m" })).await, timer(in_time("1h30m")));
    assert_eq!(wait("wait", json!({ "for": "30d" })).await, timer(in_time("30d")));
    assert_eq!(wait("wait", json!({ "until": "2030-01-31T10:30:00+01:00" })).await, timer(in_time("30m")));
}

#[tokio::test]
async fn a_wait_for_what_is_past_ends_at_once() {
    for arguments in
        [json!({ "for": "0s" }), json!({ "until": "2030-01-31T09:00:00Z" }), json!({ "until": "1970-01-01T00:00:00Z" })]
    {
        assert_eq!(done("wait", arguments).await, "the moment has already come");
    }
}

#[tokio::test]
async fn a_wait_that_is_too_long_or_unclear_is_refused() {
    for arguments in [
        json!({}),
        json!({ "for": "1h", "until": "2030-01-31T10:00:00Z" }),
        json!({ "for": "30d1ms" }),
        json!({ "for": "-5m" }),
        json!({ "for": "soon" }),
        json!({ "until": "2030-03-03T00:00:00Z" }),
        json!({ "until": "9999-12-31T23:59:59Z" }),
        json!({ "until": "2030-01-31T10:00:00" }),
        json!({ "until": "tomorrow" }),
    ] {
        let error = refused("wait", arguments).await;
        assert!(error.message.len() < 200);
    }
}

#[tokio::test]
async fn ask_waits_for_an_answer_and_always_expires() {
    let request = wait("ask", json!({ "question": "Ship it?" })).await;
    let on = WaitOn::Signal { name: "answer".to_owned(), question: "Ship it?".to_owned(), options: Vec::new() };
    assert_eq!(request, WaitRequest { on, expires_at: Some(in_time("7d")), default: None });

    let arguments = json!({ "question": "Ship it?", "options": ["yes", "no"], "expires_in": "1h", "default": "no" });
    let request = wait("ask", arguments).await;
    assert_eq!((request.expires_at, request.default), (Some(in_time("1h")), Some(json!("no"))));
    let WaitOn::Signal { options, .. } = request.on else { panic!("a signal") };
    assert_eq!(options, ["yes", "no"]);
}

#[tokio::test]
async fn a_question_that_cannot_be_answered_is_refused() {
    for arguments in [
        json!({ "question": " " }),
        json!({ "question": "ä".repeat(4_000) }),
        json!({ "question": "a", "expires_in": "0s" }),
        json!({ "question": "a", "expires_in": "91d" }),
        json!({ "question": "a", "expires_in": "later" }),
        json!({ "question": "a", "options": ["yes", "no"], "default": "maybe" }),
        json!({ "question": "a", "options": ["yes", "no"], "default": true }),
    ] {
        refused("ask", arguments).await;
    }
    for arguments in [
        json!({ "question": "" }),
        json!({ "question": "a".repeat(4_097) }),
        json!({ "question": "a", "options": ["a", "a"] }),
        json!({ "question": "a", "options": vec!["a"; 21] }),
        json!({ "question": "a", "default": { "a": 1 } }),
    ] {
        assert!(!matches_schema("ask", &arguments), "{arguments}");
    }
}

#[tokio::test]
async fn delegate_gives_work_to_an_agent_of_the_list() {
    let request = wait("delegate", json!({ "agent": "writer", "prompt": "Write.", "data": { "words": 100 } })).await;
    let input = TaskInput { prompt: "Write.".to_owned(), data: Some(json!({ "words": 100 })), images: Vec::new() };
    let on = WaitOn::Delegate { agent: "writer".parse().expect("a name"), input };
    assert_eq!(request, WaitRequest { on, expires_at: None, default: None });

    assert!(!matches_schema("delegate", &json!({ "agent": "other", "prompt": "Write." })));
    assert!(!matches_schema("delegate", &json!({ "agent": "writer", "prompt": "" })));
    refused("delegate", json!({ "agent": "writer", "prompt": "ä".repeat(40_000) })).await;
    refused("delegate", json!({ "agent": "writer", "prompt": "a", "data": "a".repeat(300_000) })).await;
}

#[test]
fn an_agent_without_delegates_has_no_delegate() {
    let agent = serde_json::from_value(json!({ "name": "lonely", "tools": ["delegate", "echo"] })).expect("an agent");
    let toolbox = builtin(BuiltinOptions::default()).for_agent(&agent);
    assert!(toolbox.get("delegate").is_none());
    assert!(toolbox.get("echo").is_some());
}
