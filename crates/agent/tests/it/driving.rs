//! What a run does, seen from the record.

use std::sync::atomic::Ordering;
use std::time::Duration;

use agent::{RunControl, RunEnd};
use domain::{FailureKind, StepBody, TaskStatus, ThreadId, ToolOutcome, WaitFor};
use serde_json::json;
use state::Signal;
use uuid::Uuid;

use crate::world::{World, namespace};

const COUNT_TWICE: &str = r"
turns:
  - tool_calls: [{name: count, arguments: {}}, {name: count, arguments: {}}]
  - text: 'counted, last {{last_tool_result}}'
";

#[tokio::test]
async fn a_task_runs_its_tools_and_ends_with_its_answer() {
    let world = World::new();
    world.agent("counter", json!({ "tools": ["count"] }), COUNT_TWICE).await;
    let task = world.submit("counter").await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    let ended = world.ended(task, TaskStatus::Succeeded).await;
    assert!(ended.usage.total() > 0);
    let kinds: Vec<_> = world.journal(task).await.into_iter().map(|step| kind(&step.body)).collect();
    assert_eq!(kinds, ["input", "model", "tool", "tool", "model"]);
    let keys = world.counter.keys.lock().expect("not poisoned").clone();
    assert_eq!(keys.len(), 2);
    assert_ne!(keys[0], keys[1], "each call has its own key");
    let answer = world.state.answer(&namespace(), task).await.expect("the record answers").expect("an answer");
    assert!(answer.as_str().is_some_and(|text| text.starts_with("counted")), "{answer}");
}

fn kind(body: &StepBody) -> &'static str {
    body.kind()
}

#[tokio::test]
async fn a_run_that_lost_its_lease_writes_nothing_more() {
    let world = World::new();
    world.agent("counter", json!({ "tools": ["count"] }), COUNT_TWICE).await;
    let task = world.submit("counter").await;
    let paused = world.claim(task).await;
    let leases = world.state.leases().await.expect("the record answers");
    world.state.reap(leases, 3, chrono::DateTime::UNIX_EPOCH).await.expect("reaped");
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    let journal = world.journal(task).await;
    let calls = world.counter.calls.load(Ordering::SeqCst);
    assert_eq!(world.driver.run(paused, &RunControl::default()).await, RunEnd::Dropped);
    assert_eq!(world.journal(task).await, journal);
    assert_eq!(world.counter.calls.load(Ordering::SeqCst), calls, "it stopped before its first effect");
}

#[tokio::test]
async fn the_next_model_is_asked_when_the_first_one_fails() {
    let world = World::new();
    let spec = json!({ "model": { "name": "scripted/broken", "fallbacks": ["scripted/sound"] } });
    world.agent("sound", json!({}), "turns: [{text: 'I am sound'}]").await;
    world.agent("broken", json!({}), "turns: [{fail: unavailable}]").await;
    world.agent("both", spec, "turns: [{text: unused}]").await;
    let task = world.submit("both").await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    let journal = world.journal(task).await;
    let StepBody::Model(step) = &journal[1].body else { panic!("{journal:?}") };
    assert_eq!(step.model, "scripted/sound", "the journal says who spoke");
}

#[tokio::test]
async fn a_failed_attempt_comes_back_after_its_pause_and_the_last_one_fails_the_task() {
    let world = World::new();
    world
        .agent("flaky", json!({ "retry": { "max_attempts": 3 } }), "turns: [{fail: rate_limited, retry_after: 90s}]")
        .await;
    let task = world.submit("flaky").await;
    for attempt in 1..3 {
        assert_eq!(world.run(task).await, RunEnd::Retried);
        let queued = world.ended(task, TaskStatus::Queued).await;
        assert_eq!(queued.attempt, attempt);
        assert!(world.try_claim(task).await.is_none(), "not before its time");
        world.clock.advance(Duration::from_secs(600));
    }
    assert_eq!(world.run(task).await, RunEnd::Failed);
    let failed = world.ended(task, TaskStatus::Failed).await;
    assert_eq!(failed.failure.map(|failure| failure.kind), Some(FailureKind::RateLimited));
}

#[tokio::test]
async fn a_permanent_failure_fails_the_task_at_once() {
    let world = World::new();
    world.agent("refused", json!({}), "turns: [{fail: refused}]").await;
    let task = world.submit("refused").await;
    assert_eq!(world.run(task).await, RunEnd::Failed);
    let failed = world.ended(task, TaskStatus::Failed).await;
    assert_eq!(failed.failure.map(|failure| failure.kind), Some(FailureKind::ModelRefused));
}

#[tokio::test]
async fn a_delegating_task_parks_and_goes_on_with_what_its_sub_task_said() {
    let world = World::new();
    let dialogue = r"
turns:
  - tool_calls: [{name: delegate, arguments: {agent: writer, prompt: write}}]
  - text: 'It says: {{last_tool_result}}'
";
    world.agent("writer", json!({}), "turns: [{text: 'a poem'}]").await;
    world.agent("editor", json!({ "tools": ["delegate"], "delegates": ["writer"] }), dialogue).await;
    let task = world.submit("editor").await;
    assert_eq!(world.run(task).await, RunEnd::Parked);
    world.ended(task, TaskStatus::Waiting).await;
    let children = world.children(task).await;
    assert_eq!(children.len(), 1);
    assert_eq!(children[0].depth, 1);
    assert_eq!(world.run(children[0].id).await, RunEnd::Succeeded);
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    let answer = world.state.answer(&namespace(), task).await.expect("the record answers").expect("an answer");
    assert_eq!(answer, json!("It says: a poem"));
}

#[tokio::test]
async fn an_agent_cannot_delegate_to_others_than_it_may_or_deeper_than_it_may() {
    let world = World::new();
    let dialogue = r"
turns:
  - tool_calls: [{name: delegate, arguments: {agent: self, prompt: again}}]
  - text: 'stopped: {{last_tool_result}}'
";
    let spec = json!({ "tools": ["delegate"], "delegates": ["self"], "limits": { "max_depth": 0 } });
    world.agent("self", spec, dialogue).await;
    let task = world.submit("self").await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    assert!(world.children(task).await.is_empty());
    let journal = world.journal(task).await;
    assert!(
        matches!(&journal[2].body, StepBody::Tool(step) if matches!(&step.outcome, ToolOutcome::Error(why) if why.contains("max_depth")))
    );
}

#[tokio::test]
async fn nobody_gets_deeper_by_giving_work_to_an_agent_that_may() {
    let world = World::new();
    let give = |to: &str| {
        format!(
            "turns: [{{tool_calls: [{{name: delegate, arguments: {{agent: {to}, prompt: go}}}}]}}, {{text: '{{{{last_tool_result}}}}'}}]"
        )
    };
    let spec =
        |to: &str, depth: u32| json!({ "tools": ["delegate"], "delegates": [to], "limits": { "max_depth": depth } });
    world.agent("leaf", json!({}), "turns: [{text: leaf}]").await;
    world.agent("deep", spec("leaf", 16), &give("leaf")).await;
    world.agent("shallow", spec("deep", 1), &give("deep")).await;
    let task = world.submit("shallow").await;
    assert_eq!(world.run(task).await, RunEnd::Parked);
    let child = world.children(task).await.remove(0);
    assert_eq!(world.run(child.id).await, RunEnd::Succeeded, "it is told that it may not");
    assert!(world.children(child.id).await.is_empty());
    let alone = world.submit("deep").await;
    assert_eq!(world.run(alone).await, RunEnd::Parked, "by itself it may");
}

#[tokio::test]
async fn a_question_waits_for_a_person_and_goes_on_with_the_answer() {
    let world = World::new();
    let dialogue = r"
turns:
  - tool_calls: [{name: ask, arguments: {question: 'May I?', options: ['yes', 'no']}}]
  - text: 'You said {{last_tool_result}}'
";
    world.agent("asker", json!({ "tools": ["ask"] }), dialogue).await;
    let task = world.submit("asker").await;
    assert_eq!(world.run(task).await, RunEnd::Parked);
    let journal = world.journal(task).await;
    let Some(StepBody::Parked { waits }) = journal.last().map(|step| &step.body) else { panic!("{journal:?}") };
    assert!(waits[0].expires_at.is_some(), "none waits for ever");
    let WaitFor::Signal { name, .. } = &waits[0].on else { panic!("{waits:?}") };
    let signal = Signal {
        name: name.clone(),
        value: json!("yes"),
        from: Some("ann".to_owned()),
        key: None,
        at: world.clock.advance_one(),
    };
    world.state.signal(&namespace(), task, signal).await.expect("delivered");
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    let answer = world.state.answer(&namespace(), task).await.expect("the record answers").expect("an answer");
    assert_eq!(answer, json!("You said yes"));
}

trait AdvanceOne {
    fn advance_one(&self) -> domain::Timestamp;
}

impl AdvanceOne for domain::ManualClock {
    fn advance_one(&self) -> domain::Timestamp {
        self.advance(Duration::from_secs(1));
        domain::Clock::now(self)
    }
}

#[tokio::test]
async fn a_cancelled_run_stops_in_the_middle_of_a_model_call() {
    let world = World::new();
    world.agent("hangs", json!({}), "turns: [{hang: true}]").await;
    let task = world.submit("hangs").await;
    let claimed = world.claim(task).await;
    let control = RunControl::default();
    let run = world.driver.run(claimed, &control);
    let cancel = async {
        world.state.cancel(&namespace(), task).await.expect("asked");
        control.cancel.cancel();
    };
    let (end, ()) = tokio::join!(run, cancel);
    assert_eq!(end, RunEnd::Cancelled);
    world.ended(task, TaskStatus::Cancelled).await;
}

#[tokio::test]
async fn a_stopping_worker_gives_its_task_back_at_no_cost() {
    let world = World::new();
    let hang = "turns: [{tool_calls: [{name: count, arguments: {hang: true}}]}, {text: done}]";
    world.agent("hangs", json!({ "tools": ["count"] }), hang).await;
    let task = world.submit("hangs").await;
    let claimed = world.claim(task).await;
    let control = RunControl::default();
    let run = world.driver.run(claimed, &control);
    let stop = async {
        while world.counter.calls.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        control.abort.cancel();
    };
    let (end, ()) = tokio::join!(run, stop);
    assert_eq!(end, RunEnd::Released);
    let queued = world.ended(task, TaskStatus::Queued).await;
    assert_eq!(queued.attempt, 0);
    assert!(world.journal(task).await.iter().any(|step| matches!(step.body, StepBody::Model(_))), "its steps are kept");
}

#[tokio::test]
async fn a_once_call_that_does_not_answer_in_time_is_unknown_and_not_an_error_to_try_again_after() {
    for (policy, expected, calls) in
        [("fail", RunEnd::Failed, 1), ("ask", RunEnd::Parked, 1), ("retry", RunEnd::Parked, 4)]
    {
        let world = World::new();
        let hang = "turns: [{tool_calls: [{name: count, arguments: {hang: true}}]}, {text: done}]";
        let spec =
            json!({ "tools": [{ "name": "count", "effect": "once", "on_unknown": policy, "timeout": "100ms" }] });
        world.agent("pays", spec, hang).await;
        let task = world.submit("pays").await;
        assert_eq!(world.run(task).await, expected, "{policy}");
        assert_eq!(world.counter.calls.load(Ordering::SeqCst), calls, "{policy}");
        let unknown =
            world.journal(task).await.into_iter().filter(
                |step| matches!(&step.body, StepBody::Tool(tool) if tool.outcome == domain::ToolOutcome::Unknown),
            );
        assert_eq!(unknown.count() as u32, calls, "{policy}");
    }
}

#[tokio::test]
async fn a_once_call_that_was_cut_off_is_not_repeated() {
    for (policy, expected) in [("fail", RunEnd::Failed), ("ask", RunEnd::Parked), ("retry", RunEnd::Succeeded)] {
        let world = World::new();
        let hang = "turns: [{tool_calls: [{name: count, arguments: {}}]}, {text: done}]";
        let spec = json!({ "tools": [{ "name": "count", "effect": "once", "on_unknown": policy }] });
        world.agent("pays", spec, hang).await;
        let task = world.submit("pays").await;
        // A worker that dies right after its mark: the journal of one that got so far.
        let claimed = world.claim(task).await;
        let lease = claimed.lease();
        let answer = domain::ModelStep {
            model: "scripted/pays".to_owned(),
            text: String::new(),
            tool_calls: vec![domain::ToolCall {
                id: "call-0-0".to_owned(),
                name: "count".to_owned(),
                arguments: json!({}),
            }],
            finish: domain::FinishReason::ToolCalls,
            usage: domain::Usage::default(),
            structured: false,
            duration_ms: 0,
            reasoning: Vec::new(),
            tries: Vec::new(),
        };
        let at = domain::Clock::now(&*world.clock);
        let marks = vec![
            state::NewStep { seq: 1, at, body: StepBody::Model(answer) },
            state::NewStep {
                seq: 2,
                at,
                body: StepBody::ToolStarted { call_id: "call-0-0".to_owned(), tool: "count".to_owned() },
            },
        ];
        world.state.append(lease, marks).await.expect("appended");
        world.state.release(lease).await.expect("released");
        assert_eq!(world.run(task).await, expected, "{policy}");
        let calls = world.counter.calls.load(Ordering::SeqCst);
        assert_eq!(calls, u32::from(policy == "retry"), "{policy}");
    }
}

#[tokio::test]
async fn wall_time_and_deadline_end_a_task_with_their_names() {
    let world = World::new();
    world
        .agent(
            "slow",
            json!({ "limits": { "wall_time": "1m" } }),
            "turns: [{fail: unavailable, times: 1}, {text: late}]",
        )
        .await;
    let task = world.submit("slow").await;
    assert_eq!(world.run(task).await, RunEnd::Retried);
    world.clock.advance(Duration::from_secs(120));
    assert_eq!(world.run(task).await, RunEnd::Failed);
    let failed = world.ended(task, TaskStatus::Failed).await.failure.expect("a failure");
    assert_eq!(failed.kind, FailureKind::LimitExceeded);
    assert!(failed.message.contains("wall_time"), "{failed}");
}

#[tokio::test]
async fn a_thread_remembers_what_its_tasks_said() {
    let world = World::new();
    world.agent("talker", json!({}), "turns: [{text: 'you said {{prompt}}'}]").await;
    let thread = ThreadId(Uuid::from_u128(7));
    let first = world.submit_with("talker", |task| task.thread = Some(thread)).await;
    let second = world.submit_with("talker", |task| task.thread = Some(thread)).await;
    assert!(world.try_claim(second).await.is_none(), "one at a time");
    assert_eq!(world.run(first).await, RunEnd::Succeeded);
    let claimed = world.claim(second).await;
    let said: Vec<_> = claimed.thread.iter().map(|said| (said.role.as_str(), said.text.as_str())).collect();
    assert_eq!(said, [("user", "go"), ("assistant", "you said go")]);
}

#[tokio::test]
async fn an_answer_that_does_not_match_is_sent_back_and_the_next_one_counts() {
    let world = World::new();
    let schema = json!({ "type": "object", "required": ["total"], "properties": { "total": { "type": "number" } } });
    let dialogue = "turns: [{text: 'about three'}, {text: '{\"total\": 3}'}]";
    world.agent("adder", json!({ "output_schema": schema }), dialogue).await;
    let task = world.submit("adder").await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    let kinds: Vec<_> = world.journal(task).await.into_iter().map(|step| kind(&step.body)).collect();
    assert_eq!(kinds, ["input", "model", "rejected", "model"]);
    let answer = world.state.answer(&namespace(), task).await.expect("the record answers").expect("an answer");
    assert_eq!(answer, json!({ "total": 3 }), "a value, not a text");
}

#[tokio::test]
async fn calls_that_the_agent_may_not_make_are_refused_and_the_model_is_told() {
    let world = World::new();
    let dialogue = r"
turns:
  - tool_calls: [{name: launch, arguments: {}}, {name: count, arguments: {hang: 'no'}}]
  - text: understood
";
    world.agent("rogue", json!({ "tools": ["count"] }), dialogue).await;
    let task = world.submit("rogue").await;
    assert_eq!(world.run(task).await, RunEnd::Succeeded);
    assert_eq!(world.counter.calls.load(Ordering::SeqCst), 0);
    let refused = world
        .journal(task)
        .await
        .into_iter()
        .filter(|step| matches!(&step.body, StepBody::Tool(step) if matches!(step.outcome, ToolOutcome::Error(_))));
    assert_eq!(refused.count(), 2);
}

#[tokio::test]
async fn a_version_that_is_gone_fails_the_task_instead_of_losing_it() {
    let world = World::new();
    let task = world.submit("nobody").await;
    assert_eq!(world.run(task).await, RunEnd::Failed);
    let failed = world.ended(task, TaskStatus::Failed).await;
    assert_eq!(failed.failure.map(|failure| failure.kind), Some(FailureKind::AgentUnknown));
}
