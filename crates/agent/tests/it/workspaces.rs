//! What tools do through the platform: memory, files, messages, progress.

use std::time::Duration;

use agent::RunEnd;
use async_trait::async_trait;
use bytes::Bytes;
use domain::{AgentName, AgentSpec, StepBody, TaskInput, TaskStatus, ThreadId, ToolOutcome, ToolSpec};
use serde_json::{Value, json};
use tools::{CallContext, MemoryScope, Tool, ToolError, ToolReply, WaitOn, WaitRequest};
use uuid::Uuid;

use crate::actor::{Act, Actor, last_tool, turn};
use crate::world::{World, namespace};

/// A tool that uses the workspace as its arguments say.
pub(crate) struct Workbench;

#[async_trait]
impl Tool for Workbench {
    fn spec(&self, _: &AgentSpec) -> Option<ToolSpec> {
        Some(ToolSpec::new("workbench", "Tries.", json!({ "type": "object" }), Duration::from_secs(30)))
    }

    async fn call(&self, context: &CallContext<'_>, arguments: Value) -> Result<ToolReply, ToolError> {
        let workspace = context.workspace;
        let text = |name: &str| arguments[name].as_str().unwrap_or_default().to_owned();
        let scope = if arguments["scope"] == "thread" { MemoryScope::Thread } else { MemoryScope::Agent };
        let done = match arguments["do"].as_str().unwrap_or_default() {
            "remember" => {
                let value = (!arguments["value"].is_null()).then(|| arguments["value"].clone());
                workspace.remember(scope, &text("key"), value).await?;
                json!("remembered")
            }
            "remember_many" => {
                for n in 0..arguments["count"].as_u64().unwrap_or_default() {
                    workspace.remember(scope, &format!("k{n:04}"), Some(json!(n))).await?;
                }
                json!("remembered")
            }
            "recall" => json!(workspace.recall(scope, &text("key")).await?),
            "keys" => json!(workspace.remembered(scope, &text("prefix")).await?),
            "write" => {
                let bytes = Bytes::from(vec![b'x'; arguments["size"].as_u64().unwrap_or(3) as usize]);
                json!(workspace.write_artifact(&text("name"), "text/plain", bytes).await?.size)
            }
            "read" => match workspace.read_artifact(&text("name")).await? {
                Some((info, bytes)) => json!([info.media_type, String::from_utf8_lossy(&bytes)]),
                None => json!(null),
            },
            "files" => json!(workspace.artifacts().await?.into_iter().map(|info| info.name).collect::<Vec<_>>()),
            "agents" => {
                json!(workspace.agents().await?.into_iter().map(|brief| brief.description).collect::<Vec<_>>())
            }
            "progress" => {
                for n in 0..100 {
                    let message = format!("\u{1b}[31m{n}\u{202e}{}", "x".repeat(1_000));
                    workspace.progress(context.call_id, &message, Some(f64::from(n)));
                }
                json!("told")
            }
            "send" => {
                let agent = AgentName::new(text("agent")).expect("a name");
                return Ok(ToolReply::Send { agent, input: TaskInput::new("hello") });
            }
            "steal" => {
                let on = WaitOn::Signal { name: text("signal"), question: "?".to_owned(), options: Vec::new() };
                return Ok(ToolReply::Wait(WaitRequest { on, expires_at: None, default: None }));
            }
            other => return Err(ToolError::new("unknown", other.to_owned())),
        };
        Ok(ToolReply::Done(done))
    }
}

/// Runs one call of the workbench in a task of its own, and says what came of it.
async fn bench(world: &World, change: impl FnOnce(&mut domain::NewTask), arguments: Value) -> ToolOutcome {
    let name = format!("bench{}", world.ids_made());
    let actor = Actor::new(move |request| match turn(request) {
        0 => Act::calls(&[("workbench", arguments.clone())]),
        _ => Act::says(&format!("done {}", last_tool(request))),
    });
    world.model(&name, actor);
    let memory = json!({ "thread_messages": 0 });
    let spec =
        json!({ "model": format!("{name}/m"), "tools": ["workbench"], "delegates": ["helper"], "memory": memory });
    world.publish("bench", spec).await;
    let version = world.agents.active(&namespace(), &AgentName::new("bench").expect("a name")).await;
    let version = version.expect("the record answers").expect("it exists").version;
    let task = world
        .submit_with("bench", |task| {
            task.agent_version = version;
            change(task);
        })
        .await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    let journal = world.journal(task).await;
    let done = journal.into_iter().find_map(|step| match step.body {
        StepBody::Tool(done) => Some(done.outcome),
        _ => None,
    });
    done.expect("the tool was called")
}

fn code(outcome: &ToolOutcome) -> &str {
    match outcome {
        ToolOutcome::Error(error) => error.split(':').next().unwrap_or_default(),
        other => panic!("an error was expected, not {other:?}"),
    }
}

#[tokio::test]
async fn an_agents_memory_outlives_its_tasks_and_a_threads_memory_is_its_own() {
    let world = World::new();
    let ok = |value: Value| ToolOutcome::Ok(value);
    let put = json!({ "do": "remember", "key": "likes/tea & cake", "value": { "much": true } });
    assert_eq!(bench(&world, |_| {}, put).await, ok(json!("remembered")));
    let recall = json!({ "do": "recall", "key": "likes/tea & cake" });
    assert_eq!(bench(&world, |_| {}, recall.clone()).await, ok(json!({ "much": true })));
    let keys = json!({ "do": "keys", "prefix": "likes/" });
    assert_eq!(bench(&world, |_| {}, keys).await, ok(json!(["likes/tea & cake"])));

    let one = |task: &mut domain::NewTask| task.thread = Some(ThreadId(Uuid::from_u128(1)));
    let two = |task: &mut domain::NewTask| task.thread = Some(ThreadId(Uuid::from_u128(2)));
    let put = json!({ "do": "remember", "scope": "thread", "key": "k", "value": 7 });
    assert_eq!(bench(&world, one, put.clone()).await, ok(json!("remembered")));
    let recall = json!({ "do": "recall", "scope": "thread", "key": "k" });
    assert_eq!(bench(&world, one, recall.clone()).await, ok(json!(7)));
    assert_eq!(bench(&world, two, recall.clone()).await, ok(json!(null)), "another conversation");
    assert_eq!(code(&bench(&world, |_| {}, recall.clone()).await), "no_thread");
    let forget = json!({ "do": "remember", "scope": "thread", "key": "k" });
    bench(&world, one, forget).await;
    assert_eq!(bench(&world, one, recall).await, ok(json!(null)));

    // What is stored can be named by every interface of the record.
    let now = domain::Clock::now(world.clock.as_ref());
    let page = world.state.values(&namespace(), "memory-agent", None, 10, now).await.expect("values");
    assert_eq!(page.items[0].key, "bench:likes@2ftea@20@26@20cake");
}

#[tokio::test]
async fn memory_has_its_limits() {
    let world = World::new();
    let big = json!({ "do": "remember", "key": "k", "value": "x".repeat(65_535) });
    assert_eq!(code(&bench(&world, |_| {}, big).await), "too_large");
    let odd = json!({ "do": "remember", "key": "a\u{0}", "value": 1 });
    assert_eq!(code(&bench(&world, |_| {}, odd).await), "invalid_key");
    let many = json!({ "do": "remember_many", "count": 1_001 });
    assert_eq!(code(&bench(&world, |_| {}, many).await), "too_many");
    let keys = bench(&world, |_| {}, json!({ "do": "keys" })).await;
    assert!(matches!(keys, ToolOutcome::Ok(Value::Array(keys)) if keys.len() == 1_000));
    let known = json!({ "do": "remember", "key": "k0000", "value": "new" });
    assert_eq!(bench(&world, |_| {}, known).await, ToolOutcome::Ok(json!("remembered")), "it is not one more");
}

#[tokio::test]
async fn files_are_kept_with_the_task_under_safe_names() {
    let world = World::new();
    assert_eq!(bench(&world, |_| {}, json!({ "do": "write", "name": "out/a.txt" })).await, ToolOutcome::Ok(json!(3)));
    for name in ["../a", "/etc/passwd", "a/../../b", ""] {
        assert_eq!(code(&bench(&world, |_| {}, json!({ "do": "write", "name": name })).await), "invalid_name");
    }
    let big = json!({ "do": "write", "name": "big", "size": 16 * 1024 * 1024 + 1 });
    assert_eq!(code(&bench(&world, |_| {}, big).await), "too_large");
    assert_eq!(bench(&world, |_| {}, json!({ "do": "read", "name": "out/a.txt" })).await, ToolOutcome::Ok(json!(null)));
}

#[tokio::test]
async fn a_file_that_was_written_can_be_read_by_the_same_task() {
    let world = World::new();
    let actor = Actor::new(|request| match turn(request) {
        0 => Act::calls(&[("workbench", json!({ "do": "write", "name": "a.txt" }))]),
        1 => Act::calls(&[
            ("workbench", json!({ "do": "read", "name": "a.txt" })),
            ("workbench", json!({ "do": "files" })),
        ]),
        _ => Act::says("done"),
    });
    world.model("first", actor.clone());
    world.publish("writer", json!({ "model": "first/m", "tools": ["workbench"] })).await;
    let task = world.submit("writer").await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    let said: Vec<_> = actor.request(2).messages.iter().rev().take(2).map(|said| format!("{said:?}")).collect();
    assert!(said[0].contains("[\\\"a.txt\\\"]"), "{said:?}");
    assert!(said[1].contains("text/plain") && said[1].contains("xxx"), "{said:?}");
}

#[tokio::test]
async fn colleagues_are_those_that_the_agent_may_give_work_to() {
    let world = World::new();
    world.publish("stranger", json!({ "description": "not for you" })).await;
    assert_eq!(bench(&world, |_| {}, json!({ "do": "agents" })).await, ToolOutcome::Ok(json!([])));
    world.publish("helper", json!({ "description": "helps" })).await;
    // The answer for a name that was unknown is remembered for a moment.
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(bench(&world, |_| {}, json!({ "do": "agents" })).await, ToolOutcome::Ok(json!(["helps"])));
}

#[tokio::test]
async fn a_message_makes_one_task_that_inherits_what_bounds_its_sender() {
    let world = World::new();
    world.publish("helper", json!({ "model": "none/m", "budget": { "tokens": 7 } })).await;
    let actor = Actor::new(|request| match turn(request) {
        0 => Act::calls(&[
            ("workbench", json!({ "do": "send", "agent": "helper" })),
            ("workbench", json!({ "do": "send", "agent": "stranger" })),
        ]),
        1 => Act::calls(&[("workbench", json!({ "do": "send", "agent": "helper" }))]),
        _ => Act::says(&last_tool(request)),
    });
    world.model("first", actor);
    let spec = json!({
        "model": "first/m", "tools": ["workbench"], "delegates": ["helper"],
        "limits": { "max_children": 1 }, "budget": { "tokens": 1_000_000 }
    });
    world.publish("sender", spec).await;
    let task = world.submit("sender").await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    assert!(world.said(task).await.as_str().is_some_and(|said| said.contains("max_children")));
    let filter = state::TaskFilter { agent: AgentName::new("helper").ok(), ..Default::default() };
    let sent = world.state.tasks(&namespace(), filter, None, 10).await.expect("a list").items;
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].depth, sent[0].parent.as_ref(), sent[0].status), (1, None, TaskStatus::Queued));
    assert!(sent[0].deadline.is_some());
    let accounts: Vec<_> = sent[0].terms.accounts.iter().map(|account| account.key.clone()).collect();
    assert_eq!(accounts, [format!("task/{task}"), format!("task/{}", sent[0].id)], "it draws on its sender's");
    assert_eq!(sent[0].idempotency_key.as_deref(), Some(format!("send:{task}/1/0").as_str()));
}

#[tokio::test]
async fn no_tool_can_wait_in_the_place_of_a_decision() {
    let world = World::new();
    for signal in ["approval/c0", "budget/budget@3"] {
        let outcome = bench(&world, |_| {}, json!({ "do": "steal", "signal": signal })).await;
        assert!(matches!(&outcome, ToolOutcome::Error(why) if why.contains("reserved")), "{outcome:?}");
    }
}

#[tokio::test]
async fn progress_is_told_now_and_then_and_in_plain_characters() {
    let world = World::new();
    let mut events = bus::Events::subscribe(world.bus.as_ref()).await.expect("subscribed");
    bench(&world, |_| {}, json!({ "do": "progress" })).await;
    let mut told = Vec::new();
    while let Some(bus::Received::Event(event)) = futures::StreamExt::next(&mut events).await {
        match &event.body {
            domain::EventBody::ToolProgress { message, fraction, .. } => told.push((message.clone(), *fraction)),
            domain::EventBody::TaskFinished { .. } => break,
            _ => {}
        }
    }
    assert_eq!(told.len(), 10);
    assert!(told.iter().all(|(message, _)| message.chars().count() == 500));
    assert!(told.iter().all(|(message, _)| !message.contains(['\u{1b}', '\u{202e}'])));
    assert_eq!(told[5].1, Some(1.0));
}
