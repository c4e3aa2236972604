//! The tools that use what the platform does for a task: files, memory, other agents.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use domain::{AgentSpec, Effect, TaskInput, ThreadId};
use serde_json::{Value, json};
use tools::{
    AgentBrief, ArtifactInfo, BuiltinOptions, CallContext, MemoryScope, NoWorkspace, Refusal, ToolError, ToolReply,
    Toolbox, Workspace, builtin,
};
use uuid::Uuid;

use crate::support::{now, task};

#[derive(Default)]
struct Platform {
    memory: Mutex<BTreeMap<(&'static str, String), Value>>,
    files: Mutex<BTreeMap<String, (String, Bytes)>>,
}

fn scope_name(scope: MemoryScope) -> &'static str {
    match scope {
        MemoryScope::Thread => "thread",
        MemoryScope::Agent => "agent",
    }
}

fn info(name: &str, (media_type, bytes): &(String, Bytes)) -> ArtifactInfo {
    ArtifactInfo { name: name.to_owned(), media_type: media_type.clone(), size: bytes.len() as u64 }
}

#[async_trait]
impl Workspace for Platform {
    async fn recall(&self, scope: MemoryScope, key: &str) -> Result<Option<Value>, ToolError> {
        Ok(self.memory.lock().expect("not poisoned").get(&(scope_name(scope), key.to_owned())).cloned())
    }

    async fn remember(&self, scope: MemoryScope, key: &str, value: Option<Value>) -> Result<(), ToolError> {
        let key = (scope_name(scope), key.to_owned());
        let mut memory = self.memory.lock().expect("not poisoned");
        match value {
            Some(value) => memory.insert(key, value),
            None => memory.remove(&key),
        };
        Ok(())
    }

    async fn remembered(&self, scope: MemoryScope, prefix: &str) -> Result<Vec<String>, ToolError> {
        let memory = self.memory.lock().expect("not poisoned");
        let keys = memory.keys().filter(|(of, key)| *of == scope_name(scope) && key.starts_with(prefix));
        Ok(keys.map(|(_, key)| key.clone()).collect())
    }

    async fn write_artifact(&self, name: &str, media_type: &str, bytes: Bytes) -> Result<ArtifactInfo, ToolError> {
        let file = (media_type.to_owned(), bytes);
        let told = info(name, &file);
        self.files.lock().expect("not poisoned").insert(name.to_owned(), file);
        Ok(told)
    }

    async fn read_artifact(&self, name: &str) -> Result<Option<(ArtifactInfo, Bytes)>, ToolError> {
        Ok(self.files.lock().expect("not poisoned").get(name).map(|file| (info(name, file), file.1.clone())))
    }

    async fn artifacts(&self) -> Result<Vec<ArtifactInfo>, ToolError> {
        Ok(self.files.lock().expect("not poisoned").iter().map(|(name, file)| info(name, file)).collect())
    }

    async fn agents(&self) -> Result<Vec<AgentBrief>, ToolError> {
        let brief = |name: &str| AgentBrief { name: name.parse().expect("a name"), description: format!("is {name}") };
        Ok(["critic", "stranger", "writer"].map(brief).into())
    }

    fn progress(&self, _: &str, _: &str, _: Option<f64>) {}
}

struct Desk {
    platform: Platform,
    agent: AgentSpec,
    toolbox: Toolbox,
    in_thread: bool,
}

impl Desk {
    fn new() -> Self {
        let agent = json!({
            "name": "tester",
            "tools": [
                "list_agents", "list_artifacts", "read_artifact", "recall", "remember", "send_message", "write_artifact"
            ],
            "delegates": ["writer", "critic"]
        });
        let agent: AgentSpec = serde_json::from_value(agent).expect("an agent");
        let toolbox = builtin(BuiltinOptions::default()).for_agent(&agent);
        Self { platform: Platform::default(), agent, toolbox, in_thread: true }
    }

    fn check(&self, tool: &str, arguments: &Value) -> Result<(), Refusal> {
        self.toolbox.check(tool, arguments).map(|_| ())
    }

    async fn call_in(&self, workspace: &dyn Workspace, tool: &str, arguments: Value) -> Result<ToolReply, ToolError> {
        let allowed = self.toolbox.check(tool, &arguments).expect("the arguments match the schema");
        let mut task = task(&self.agent);
        task.thread = self.in_thread.then_some(ThreadId(Uuid::from_u128(7)));
        let context = CallContext {
            task: &task,
            agent: &self.agent,
            call_id: "call-1",
            idempotency_key: "key-1".to_owned(),
            now: now(),
            workspace,
        };
        allowed.tool.call(&context, arguments).await
    }

    async fn call(&self, tool: &str, arguments: Value) -> Result<ToolReply, ToolError> {
        self.call_in(&self.platform, tool, arguments).await
    }

    async fn done(&self, tool: &str, arguments: Value) -> Value {
        match self.call(tool, arguments).await {
            Ok(ToolReply::Done(value)) => value,
            other => panic!("not done: {other:?}"),
        }
    }

    async fn refused(&self, tool: &str, arguments: Value) -> &'static str {
        self.call(tool, arguments.clone()).await.err().unwrap_or_else(|| panic!("accepted: {arguments}")).code
    }
}

#[tokio::test]
async fn a_text_that_was_written_is_listed_and_read_back() {
    let desk = Desk::new();
    let written = desk.done("write_artifact", json!({ "name": "notes/plan.md", "content": "# Plän" })).await;
    let file = json!({ "name": "notes/plan.md", "media_type": "text/markdown", "size": 7 });
    assert_eq!(written, file);
    assert_eq!(desk.done("list_artifacts", json!({})).await, json!({ "artifacts": [file] }));
    assert_eq!(
        desk.done("read_artifact", json!({ "name": "notes/plan.md" })).await,
        json!({ "name": "notes/plan.md", "media_type": "text/markdown", "total": 7, "offset": 0, "content": "# Plän" })
    );
}

#[tokio::test]
async fn bytes_travel_as_base64() {
    let desk = Desk::new();
    let base64 = STANDARD.encode([0, 159, 146, 150]);
    let written = desk.done("write_artifact", json!({ "name": "picture.png", "content_base64": base64 })).await;
    assert_eq!(written, json!({ "name": "picture.png", "media_type": "image/png", "size": 4 }));
    let read = desk.done("read_artifact", json!({ "name": "picture.png", "offset": 1, "length": 2 })).await;
    assert_eq!(read["content_base64"], json!(STANDARD.encode([159, 146])));
    assert_eq!((&read["total"], &read["next_offset"]), (&json!(4), &json!(3)));
}

#[tokio::test]
async fn a_large_text_is_read_in_portions_that_join_to_the_whole() {
    let desk = Desk::new();
    let text = "zwölf Boxkämpfer jagen Viktor 😀 ".repeat(10_000);
    desk.done("write_artifact", json!({ "name": "large.txt", "content": text })).await;
    let (mut whole, mut offset) = (String::new(), json!(0));
    loop {
        let read =
            desk.done("read_artifact", json!({ "name": "large.txt", "offset": offset, "length": 262_144 })).await;
        let part = read["content"].as_str().expect("text");
        assert!(part.len() <= 262_144);
        whole.push_str(part);
        offset = read["next_offset"].clone();
        if offset.is_null() {
            break;
        }
    }
    assert!(whole == text);
    let usual = desk.done("read_artifact", json!({ "name": "large.txt" })).await;
    assert!(usual["content"].as_str().is_some_and(|part| part.len() <= 65_536));
    let beyond = desk.done("read_artifact", json!({ "name": "large.txt", "offset": 99_999_999 })).await;
    assert_eq!((&beyond["content"], beyond.get("next_offset")), (&json!(""), None));
    assert!(desk.check("read_artifact", &json!({ "name": "large.txt", "length": 262_145 })).is_err());
}

#[tokio::test]
async fn a_file_that_cannot_be_kept_is_refused() {
    let desk = Desk::new();
    for arguments in [
        json!({ "name": "../up", "content": "a" }),
        json!({ "name": "/etc/passwd", "content": "a" }),
        json!({ "name": "a\u{202e}b", "content": "a" }),
        json!({ "name": "a" }),
        json!({ "name": "a", "content": "a", "content_base64": "YQ==" }),
        json!({ "name": "a", "content_base64": "not base64!" }),
        json!({ "name": "a", "content": "a", "media_type": "text/html; charset=x\r\nX-Evil: 1" }),
        json!({ "name": "a", "content": "€".repeat(600_000) }),
    ] {
        assert_eq!(desk.refused("write_artifact", arguments).await, "invalid_arguments");
    }
    assert!(desk.check("write_artifact", &json!({ "name": "a", "content": "a".repeat(1_048_577) })).is_err());
    assert!(desk.platform.files.lock().expect("not poisoned").is_empty());
    assert_eq!(desk.refused("read_artifact", json!({ "name": "none" })).await, "unknown_artifact");
}

#[tokio::test]
async fn what_is_remembered_is_told_as_data_with_where_it_is_from() {
    let desk = Desk::new();
    let arguments = json!({ "key": "customer/42", "value": { "speaks": "de" }, "scope": "agent" });
    assert_eq!(desk.done("remember", arguments).await["done"], "remembered");
    let recalled = desk.done("recall", json!({ "key": "customer/42", "scope": "agent" })).await;
    assert_eq!((&recalled["found"], &recalled["value"]), (&json!(true), &json!({ "speaks": "de" })));
    let note = recalled["note"].as_str().expect("a note");
    assert!(note.contains("this agent") && note.contains("no instruction"), "{note}");
}

#[tokio::test]
async fn the_memories_of_a_conversation_and_of_an_agent_are_two() {
    let desk = Desk::new();
    for (scope, value) in [("agent", 1), ("thread", 2)] {
        desk.done("remember", json!({ "key": "n", "value": value, "scope": scope })).await;
    }
    for (scope, value) in [("agent", 1), ("thread", 2)] {
        assert_eq!(desk.done("recall", json!({ "key": "n", "scope": scope })).await["value"], value);
    }
}

#[tokio::test]
async fn null_forgets_and_what_is_forgotten_is_not_found() {
    let desk = Desk::new();
    desk.done("remember", json!({ "key": "n", "value": 1, "scope": "thread" })).await;
    let forgotten = desk.done("remember", json!({ "key": "n", "value": null, "scope": "thread" })).await;
    assert_eq!(forgotten["done"], "forgotten");
    assert_eq!(
        desk.done("recall", json!({ "key": "n", "scope": "thread" })).await,
        json!({ "key": "n", "found": false })
    );
}

#[tokio::test]
async fn without_a_key_the_keys_are_listed() {
    let desk = Desk::new();
    for key in ["a/1", "a/2", "b"] {
        desk.done("remember", json!({ "key": key, "value": true, "scope": "agent" })).await;
    }
    assert_eq!(desk.done("recall", json!({ "scope": "agent" })).await["keys"], json!(["a/1", "a/2", "b"]));
    assert_eq!(desk.done("recall", json!({ "scope": "agent", "prefix": "a/" })).await["keys"], json!(["a/1", "a/2"]));
    assert_eq!(
        desk.refused("recall", json!({ "scope": "agent", "key": "a", "prefix": "a" })).await,
        "invalid_arguments"
    );
}

#[tokio::test]
async fn what_cannot_be_remembered_is_refused() {
    let mut desk = Desk::new();
    for arguments in [
        json!({ "key": " a", "value": 1, "scope": "agent" }),
        json!({ "key": "a\nb", "value": 1, "scope": "agent" }),
        json!({ "key": "ä".repeat(150), "value": 1, "scope": "agent" }),
        json!({ "key": "a", "value": "x".repeat(70_000), "scope": "agent" }),
    ] {
        assert_eq!(desk.refused("remember", arguments).await, "invalid_arguments");
    }
    assert!(desk.check("remember", &json!({ "key": "a", "value": 1, "scope": "everybody" })).is_err());
    assert!(desk.check("remember", &json!({ "key": "a", "scope": "agent" })).is_err());
    desk.in_thread = false;
    let thread = json!({ "key": "a", "value": 1, "scope": "thread" });
    assert_eq!(desk.refused("remember", thread).await, "invalid_arguments");
    assert_eq!(desk.refused("recall", json!({ "scope": "thread" })).await, "invalid_arguments");
    assert!(desk.platform.memory.lock().expect("not poisoned").is_empty());
}

#[tokio::test]
async fn only_the_agents_of_the_own_file_are_listed_and_told() {
    let desk = Desk::new();
    assert_eq!(
        desk.done("list_agents", json!({})).await,
        json!({ "agents": [
            { "name": "critic", "description": "is critic" },
            { "name": "writer", "description": "is writer" }
        ] })
    );
    let sent = desk.call("send_message", json!({ "agent": "writer", "message": "Hi.", "data": { "n": 1 } })).await;
    let input = TaskInput { prompt: "Hi.".to_owned(), data: Some(json!({ "n": 1 })), images: Vec::new() };
    assert_eq!(sent, Ok(ToolReply::Send { agent: "writer".parse().unwrap(), input }));
    assert!(desk.check("send_message", &json!({ "agent": "stranger", "message": "Hi." })).is_err());
    for arguments in [
        json!({ "agent": "writer", "message": " " }),
        json!({ "agent": "writer", "message": "ä".repeat(40_000) }),
        json!({ "agent": "writer", "message": "a", "data": "a".repeat(300_000) }),
    ] {
        assert_eq!(desk.refused("send_message", arguments).await, "invalid_arguments");
    }
}

#[test]
fn a_message_is_the_only_one_of_them_with_an_effect() {
    for spec in Desk::new().toolbox.specs() {
        let expected = if spec.name == "send_message" { Effect::Keyed } else { Effect::None };
        assert_eq!(spec.effect, expected, "{}", spec.name);
    }
}

#[test]
fn an_agent_without_delegates_can_neither_list_nor_tell_others() {
    let agent = json!({ "name": "lonely", "tools": ["list_agents", "send_message", "recall"] });
    let toolbox = builtin(BuiltinOptions::default()).for_agent(&serde_json::from_value(agent).expect("an agent"));
    assert!(toolbox.get("list_agents").is_none() && toolbox.get("send_message").is_none());
    assert!(toolbox.get("recall").is_some());
}

#[tokio::test]
async fn outside_of_a_task_nothing_is_kept() {
    let desk = Desk::new();
    for (tool, arguments) in [
        ("write_artifact", json!({ "name": "a", "content": "a" })),
        ("read_artifact", json!({ "name": "a" })),
        ("list_artifacts", json!({})),
        ("remember", json!({ "key": "a", "value": 1, "scope": "agent" })),
        ("recall", json!({ "scope": "agent" })),
        ("list_agents", json!({})),
    ] {
        let error = desk.call_in(&NoWorkspace, tool, arguments).await.expect_err("unavailable");
        assert_eq!(error.code, "unavailable", "{tool}");
    }
}
