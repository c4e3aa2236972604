//! Watching a task.

use client::TaskEvent;
use domain::{FinishReason, ModelStep, StepBody, ToolCall, ToolOutcome, ToolStep, Usage};
use futures::StreamExt;
use serde_json::json;

use crate::platform::{PATIENCE, Platform, answer, until};
use crate::raw_events::RawEvents;
use crate::worker::{Run, spoken};

fn asks_for_a_tool() -> StepBody {
    StepBody::Model(ModelStep {
        model: "scripted/test".to_owned(),
        text: String::new(),
        tool_calls: vec![ToolCall { id: "c1".to_owned(), name: "wait".to_owned(), arguments: json!({}) }],
        finish: FinishReason::ToolCalls,
        usage: Usage::default(),
        structured: false,
        duration_ms: 1,
        reasoning: Vec::new(),
        tries: Vec::new(),
    })
}

fn tool_answered() -> StepBody {
    let outcome = ToolOutcome::Ok(json!("now"));
    StepBody::Tool(ToolStep { call_id: "c1".to_owned(), tool: "wait".to_owned(), outcome, duration_ms: 1 })
}

fn names(events: &[crate::raw_events::RawEvent]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

#[tokio::test]
async fn a_reader_can_resume_at_every_event_while_the_answer_is_spoken_and_after_the_end() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    let path = format!("/tasks/{id}/events");
    let mut first = RawEvents::open(&platform, &path, None).await;
    let mut run = Run::of(&platform, id).await;
    run.step(asks_for_a_tool()).await;
    run.step(tool_answered()).await;
    (1..=4).for_each(|n| run.say(1, n));
    let told = first.ids_until("3-1-1-4").await;
    assert_eq!(told, ["0", "1", "2", "3-1-1-1", "3-1-1-2", "3-1-1-3", "3-1-1-4"]);

    let mut late = RawEvents::open(&platform, &path, None).await;
    assert_eq!(late.ids_until("3-1-1-4").await, told, "a late reader starts from the first token");

    run.say(1, 5);
    for (at, id) in told.iter().enumerate() {
        let mut resumed = RawEvents::open(&platform, &path, Some(id)).await;
        let mut expected = told[at + 1..].to_vec();
        expected.push("3-1-1-5".to_owned());
        assert_eq!(resumed.ids_until("3-1-1-5").await, expected, "after {id}");
    }

    run.succeed("1 2 3 4 5").await;
    assert_eq!(first.ids_until("end").await, ["3-1-1-5", "3", "end"]);
    assert!(first.next().await.is_none(), "the stream ends with the task");

    let whole = ["0", "1", "2", "3", "end"];
    for id in told.iter().map(String::as_str).chain(["3-1-1-5", "3", "end"]) {
        let from = whole.iter().position(|step| *step == id).map_or(3, |at| (at + 1).min(4));
        let mut resumed = RawEvents::open(&platform, &path, Some(id)).await;
        assert_eq!(resumed.ids_until("end").await, whole[from..], "after {id}");
        assert!(resumed.next().await.is_none());
    }
}

#[tokio::test]
async fn the_last_event_is_the_whole_task_with_its_output() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    Run::of(&platform, id).await.succeed("the answer").await;
    let events = RawEvents::open(&platform, &format!("/tasks/{id}/events"), None).await.rest().await;
    assert_eq!(names(&events), ["task.step", "task.step", "task.finished"]);
    let finished = &events[2];
    assert_eq!((&finished.data["status"], &finished.data["output"]), (&json!("succeeded"), &json!("the answer")));
    assert_eq!(finished.data, serde_json::to_value(platform.task(id).await).unwrap());
}

#[tokio::test]
async fn a_step_that_is_spoken_anew_is_told_as_a_restart() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    let path = format!("/tasks/{id}/events");
    let mut reader = RawEvents::open(&platform, &path, None).await;
    let run = Run::of(&platform, id).await;
    run.say(1, 1);
    run.say(1, 2);
    assert_eq!(reader.ids_until("1-1-1-2").await, ["0", "1-1-1-1", "1-1-1-2"]);
    run.say(2, 1);
    let restart = reader.next().await.unwrap();
    assert_eq!((restart.name.as_str(), restart.data), ("task.restart", json!({ "seq": 1, "epoch": 1, "call": 2 })));
    assert_eq!(reader.ids_until("1-1-2-1").await, ["1-1-2-1"]);

    let mut resumed = RawEvents::open(&platform, &path, Some("1-1-1-2")).await;
    let told: Vec<_> =
        [resumed.next().await, resumed.next().await, resumed.next().await].into_iter().flatten().collect();
    assert_eq!(names(&told), ["task.status", "task.restart", "task.delta"]);
}

#[tokio::test]
async fn steps_whose_events_were_lost_are_read_from_the_journal() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    let mut reader = RawEvents::open(&platform, &format!("/tasks/{id}/events"), None).await;
    assert_eq!(reader.ids_until("0").await, ["0"]);
    let mut run = Run::of(&platform, id).await;
    run.journal(asks_for_a_tool()).await;
    run.journal(tool_answered()).await;
    run.say(1, 1);
    assert_eq!(reader.ids_until("3-1-1-1").await, ["1", "2", "3-1-1-1"]);
    run.journal(asks_for_a_tool()).await;
    run.step(tool_answered()).await;
    assert_eq!(reader.ids_until("4").await, ["3", "4"]);
    run.succeed("done").await;
    assert_eq!(reader.ids_until("end").await, ["5", "end"]);
}

#[tokio::test]
async fn a_reader_that_falls_behind_misses_nothing() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    let mut reader = RawEvents::open(&platform, &format!("/tasks/{id}/events"), None).await;
    assert_eq!(reader.ids_until("0").await, ["0"]);
    let run = Run::of(&platform, id).await;
    // More than the bus keeps for one listener, and without letting anybody listen in between.
    (1..=3000).for_each(|n| run.say(1, n));
    let expected: Vec<_> = (1..=3000).map(|n| format!("1-1-1-{n}")).collect();
    assert_eq!(reader.ids_until("1-1-1-3000").await, expected);
    run.succeed("all of it").await;
    assert_eq!(reader.ids_until("end").await, ["1", "end"]);
}

#[tokio::test]
async fn a_status_is_told_when_it_changes() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    let mut events = platform.client.events(id, None);
    let run = Run::of(&platform, id).await;
    platform.client.cancel(id).await.unwrap();
    let mut cancelling = false;
    while let Ok(Some(event)) = tokio::time::timeout(PATIENCE, events.next()).await {
        match event.unwrap() {
            TaskEvent::Status(status) if status.cancelling => {
                cancelling = true;
                break;
            }
            _ => {}
        }
    }
    assert!(cancelling);
    run.stop_as_cancelled().await;
    let rest: Vec<_> = tokio::time::timeout(PATIENCE, events.collect()).await.unwrap();
    let Some(Ok(TaskEvent::Finished(task))) = rest.last() else { panic!("{rest:?}") };
    assert_eq!(task.status, domain::TaskStatus::Cancelled);
}

#[tokio::test]
async fn a_reader_that_saw_the_end_of_a_task_which_was_retried_is_told_its_new_life() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    Run::of(&platform, id).await.fail().await;
    platform.client.retry(id, true).await.unwrap();
    let mut reader = RawEvents::open(&platform, &format!("/tasks/{id}/events"), Some("end")).await;
    Run::of(&platform, id).await.succeed("at last").await;
    let ids = reader.ids_until("end").await;
    let journal = platform.client.whole_journal(id).await.unwrap();
    let retried = journal.iter().find(|step| matches!(step.0.body, StepBody::Retried { .. })).unwrap().0.seq;
    assert_eq!(ids.first(), Some(&retried.to_string()));
}

#[tokio::test]
async fn a_place_that_does_not_exist_is_refused() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    let path = format!("/tasks/{id}/events");
    let long = "1".repeat(4096);
    for text in ["garbage", "-1", "1-2", "1-1-1-1-1", "7", "999999999999", "4294967294", "9-1-1-1", "0x10", &long] {
        let (status, problem) = answer(platform.get(&path).header("last-event-id", text)).await;
        assert_eq!(
            (status.as_u16(), &problem["errors"][0]["pointer"]),
            (400, &json!("header.Last-Event-ID")),
            "{text}"
        );
    }
}

#[tokio::test]
async fn the_number_of_streams_is_bounded_and_a_reader_that_leaves_makes_room() {
    let platform = Platform::with(|config| config.orchestrator_max_streams = 1).await;
    let id = platform.submit().await;
    let path = format!("/tasks/{id}/events");
    let first = RawEvents::open(&platform, &path, None).await;
    let (status, problem) = answer(platform.get(&path)).await;
    assert_eq!((status.as_u16(), &problem["type"]), (429, &json!("/errors/overloaded")));
    drop(first);
    until("there is room again", || async { platform.get(&path).send().await.unwrap().status() == 200 }).await;
}

#[tokio::test]
async fn an_idle_stream_shows_that_it_lives_and_ends_with_the_service() {
    let platform = Platform::with(|config| config.orchestrator_stream_heartbeat = "20ms".parse().unwrap()).await;
    let id = platform.submit().await;
    let mut response = platform.get(&format!("/tasks/{id}/events")).send().await.unwrap();
    let mut text = String::new();
    while !(text.contains("retry: 1000") && text.lines().filter(|line| line.starts_with(':')).count() >= 2) {
        let chunk = tokio::time::timeout(PATIENCE, response.chunk()).await.unwrap().unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    platform.stop().await;
    while let Ok(Some(_)) = tokio::time::timeout(PATIENCE, response.chunk()).await.expect("the stream ends") {}
}

#[tokio::test]
async fn the_client_hears_the_whole_story() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    let events = platform.client.events(id, None);
    let mut run = Run::of(&platform, id).await;
    run.step(spoken("half")).await;
    run.succeed("whole").await;
    let told: Vec<_> = tokio::time::timeout(PATIENCE, events.collect()).await.unwrap();
    let steps: Vec<u32> = told
        .iter()
        .filter_map(|event| match event {
            Ok(TaskEvent::Step(step)) => Some(step.0.seq),
            _ => None,
        })
        .collect();
    assert_eq!(steps, [0, 1, 2]);
    assert!(matches!(told.last(), Some(Ok(TaskEvent::Finished(task))) if task.output == Some(json!("whole"))));
}
