//! Looking at tasks and changing them.

use std::time::Duration;

use client::ListTasks;
use domain::{FailureKind, StepBody, TaskId, TaskStatus, ThreadId, Wait, WaitFor};
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;
use wire::{SignalBody, SubmitTask, WaitingFor};

use crate::platform::{PATIENCE, Platform, answer, request, until, writer};
use crate::worker::{Run, spoken};

fn question(name: &str) -> Wait {
    let options = vec!["yes".to_owned(), "no".to_owned()];
    let on = WaitFor::Signal { name: name.to_owned(), question: "May I?".to_owned(), options };
    Wait { call_id: "call_1".to_owned(), on, expires_at: None, default: None }
}

#[tokio::test]
async fn a_succeeded_task_shows_its_output_usage_and_times() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    Run::of(&platform, id).await.succeed("the answer").await;
    let task = platform.task(id).await;
    assert_eq!((task.status, task.output), (TaskStatus::Succeeded, Some(json!("the answer"))));
    assert_eq!(task.usage.total(), 7);
    assert!(task.started_at.is_some() && task.finished_at >= task.started_at && task.waiting_for.is_empty());
}

#[tokio::test]
async fn a_long_poll_ends_with_the_task() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    let client = platform.client.clone();
    let waiting = tokio::spawn(async move { client.wait(id, PATIENCE).await });
    Run::of(&platform, id).await.succeed("done").await;
    let task = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!((task.status, task.output), (TaskStatus::Succeeded, Some(json!("done"))));
}

#[tokio::test]
async fn a_long_poll_of_a_task_that_does_not_end_answers_in_time() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    let (status, task) = answer(platform.get(&format!("/tasks/{id}?wait=50ms"))).await;
    assert_eq!((status, &task["status"]), (StatusCode::OK, &json!("queued")));
}

#[tokio::test]
async fn a_long_poll_does_not_hold_up_a_shutdown() {
    let metrics = common::telemetry::metrics_handle();
    let platform = Platform::start().await;
    let id = platform.submit().await;
    let polling = tokio::spawn(platform.get(&format!("/tasks/{id}?wait=50s")).send());
    until("the poll has begun", || async { metrics.render().contains("task_waits 1") }).await;
    platform.stop().await;
    let response = tokio::time::timeout(PATIENCE, polling).await.unwrap().unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_journal_comes_in_pages() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    let mut run = Run::of(&platform, id).await;
    for number in 1..=9 {
        run.step(spoken(&number.to_string())).await;
    }
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let page = platform.client.journal(id, cursor.as_deref(), 4).await.unwrap();
        assert!(page.items.len() <= 4);
        seen.extend(page.items.iter().map(|step| step.0.seq));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, (0..=9).collect::<Vec<_>>());
    let (_, page) = answer(platform.get(&format!("/tasks/{id}/journal?from=8"))).await;
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    let (_, page) = answer(platform.get(&format!("/tasks/{id}/journal?from=4000000000"))).await;
    assert_eq!(page, json!({ "items": [] }));
}

#[tokio::test]
async fn tasks_are_listed_newest_first_by_filters_and_pages() {
    let platform = Platform::start().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(platform.submit().await);
    }
    platform.client.cancel(ids[1]).await.unwrap();
    ids.reverse();

    let mut list = ListTasks { limit: Some(2), ..ListTasks::default() };
    let mut seen = Vec::new();
    loop {
        let page = platform.client.tasks(&list).await.unwrap();
        seen.extend(page.items.iter().map(|task| task.id));
        list.cursor = page.next_cursor;
        if list.cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, ids);

    let count = async |list: ListTasks| platform.client.tasks(&list).await.unwrap().items.len();
    let statuses = vec![TaskStatus::Queued, TaskStatus::Running];
    assert_eq!(count(ListTasks { statuses, ..ListTasks::default() }).await, 4);
    assert_eq!(count(ListTasks { statuses: vec![TaskStatus::Cancelled], ..ListTasks::default() }).await, 1);
    assert_eq!(count(ListTasks { agent: Some(writer()), ..ListTasks::default() }).await, 5);
    let reader = "reader".parse().ok();
    assert_eq!(count(ListTasks { agent: reader, ..ListTasks::default() }).await, 0);
    assert_eq!(count(ListTasks { parent: Some(ids[0]), ..ListTasks::default() }).await, 0);
}

#[tokio::test]
async fn a_queued_task_is_cancelled_at_once_and_only_once() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    let task = platform.client.cancel(id).await.unwrap();
    assert_eq!((task.status, task.cancelling), (TaskStatus::Cancelled, false));
    let (status, problem) = answer(platform.post(&format!("/tasks/{id}/cancel"))).await;
    assert_eq!((status, &problem["type"]), (StatusCode::CONFLICT, &json!("/errors/task-ended")));
    assert!(problem["detail"].as_str().unwrap().contains("cancelled"), "{problem}");
}

#[tokio::test]
async fn a_running_task_is_shown_as_cancelling_until_its_worker_stops() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    let run = Run::of(&platform, id).await;
    let task = platform.client.cancel(id).await.unwrap();
    assert_eq!((task.status, task.cancelling), (TaskStatus::Running, true));
    let again = platform.client.cancel(id).await.unwrap();
    assert_eq!((again.status, again.cancelling), (TaskStatus::Running, true));
    run.stop_as_cancelled().await;
    let task = platform.task(id).await;
    assert_eq!((task.status, task.cancelling), (TaskStatus::Cancelled, false));
}

#[tokio::test]
async fn a_late_cancel_tells_how_the_task_ended() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    Run::of(&platform, id).await.succeed("done").await;
    let (status, problem) = answer(platform.post(&format!("/tasks/{id}/cancel"))).await;
    assert_eq!((status, &problem["type"]), (StatusCode::CONFLICT, &json!("/errors/task-ended")));
    assert!(problem["detail"].as_str().unwrap().contains("succeeded"));
    assert_eq!(platform.task(id).await.output, Some(json!("done")));
}

#[tokio::test]
async fn a_waiting_task_says_what_it_asks_and_a_signal_wakes_it() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    Run::of(&platform, id).await.park(vec![question("answer")]).await;
    let task = platform.task(id).await;
    assert_eq!(task.status, TaskStatus::Waiting);
    let [WaitingFor::Signal { name, question, options, .. }] = &task.waiting_for[..] else { panic!("{task:?}") };
    assert_eq!((name.as_str(), question.as_str(), options.len()), ("answer", "May I?", 2));

    let body = SignalBody { name: "answer".to_owned(), value: json!("yes"), from: Some("kim".to_owned()) };
    let task = platform.client.signal(id, &body, Some("s1")).await.unwrap();
    assert_eq!((task.status, task.waiting_for), (TaskStatus::Queued, vec![WaitingFor::Worker]));
    platform.client.signal(id, &body, Some("s1")).await.unwrap();
    let journal = platform.client.whole_journal(id).await.unwrap();
    let answers = journal.iter().filter(|step| matches!(step.0.body, StepBody::Resolved { .. })).count();
    assert_eq!(answers, 1, "the same key again changes nothing");

    Run::of(&platform, id).await.succeed("thanks").await;
    let (status, problem) = answer(platform.post(&format!("/tasks/{id}/signal")).json(&body)).await;
    assert_eq!((status, &problem["type"]), (StatusCode::CONFLICT, &json!("/errors/task-ended")));
}

#[tokio::test]
async fn a_failed_task_is_a_dead_letter_until_somebody_retries_it() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    let mut run = Run::of(&platform, id).await;
    run.step(spoken("half")).await;
    run.fail().await;
    let letters = platform.client.dead_letters(None, None, 10).await.unwrap();
    assert_eq!(letters.items.len(), 1);
    assert_eq!(letters.items[0].failure.as_ref().unwrap().kind, FailureKind::ModelRefused);
    assert!(platform.client.dead_letters(Some(&"reader".parse().unwrap()), None, 10).await.unwrap().items.is_empty());

    // As curl sends it: neither a body nor a type.
    let (status, task) = answer(platform.post(&format!("/tasks/{id}/retry"))).await;
    assert_eq!((status, &task["status"]), (StatusCode::ACCEPTED, &json!("queued")));
    assert!(platform.client.dead_letters(None, None, 10).await.unwrap().items.is_empty());
    let (status, problem) = answer(platform.post(&format!("/tasks/{id}/retry"))).await;
    assert_eq!((status, &problem["type"]), (StatusCode::CONFLICT, &json!("/errors/task-conflict")));

    Run::of(&platform, id).await.fail().await;
    platform.client.retry(id, false).await.unwrap();
    let journal = platform.client.whole_journal(id).await.unwrap();
    let retried: Vec<_> = journal
        .iter()
        .filter_map(|step| match step.0.body {
            StepBody::Retried { keep_journal } => Some(keep_journal),
            _ => None,
        })
        .collect();
    assert_eq!(retried, [true, false]);
}

#[tokio::test]
async fn a_task_of_a_busy_conversation_says_for_whom_it_waits() {
    let platform = Platform::start().await;
    let thread = ThreadId(Uuid::from_u128(0x0195_d3a0_5c5e_7c3a_9f5d_2f6a_1f0b_7c11));
    let body = SubmitTask { thread_id: Some(thread), ..request() };
    let first = platform.client.submit(&body).await.unwrap().task.id;
    let second = platform.client.submit(&body).await.unwrap().task.id;
    assert_eq!(platform.task(second).await.waiting_for, [WaitingFor::Thread { task: first }]);
    Run::of(&platform, first).await.succeed("the first answer").await;
    assert_eq!(platform.task(second).await.waiting_for, [WaitingFor::Worker]);

    let threads = platform.client.threads(None, 10).await.unwrap();
    assert_eq!(threads.items.iter().map(|thread| thread.id).collect::<Vec<_>>(), [thread]);
    let messages = platform.client.messages(thread, None, 10).await.unwrap();
    assert!(messages.items.iter().any(|message| message.text == "the first answer"));
    let page = platform.client.messages(thread, None, 1).await.unwrap();
    assert_eq!(page.items.len(), 1);
    assert_eq!(page.next_cursor.is_some(), messages.items.len() > 1);
}

#[tokio::test]
async fn what_does_not_exist_is_not_found_in_the_same_way_everywhere() {
    let platform = Platform::start().await;
    let id = TaskId(Uuid::from_u128(0x0195_d3a0_5c5e_7c3a_9f5d_2f6a_1f0b_7c10));
    let signal = json!({ "name": "answer" });
    let mut bodies = Vec::new();
    for request in [
        platform.get(&format!("/tasks/{id}")),
        platform.get(&format!("/tasks/{id}?wait=1s")),
        platform.get(&format!("/tasks/{id}/journal")),
        platform.get(&format!("/tasks/{id}/events")),
        platform.get(&format!("/tasks/{id}/events")).header("last-event-id", "12-1-1-1"),
        platform.post(&format!("/tasks/{id}/cancel")),
        platform.post(&format!("/tasks/{id}/signal")).json(&signal),
        platform.post(&format!("/tasks/{id}/retry")),
    ] {
        let (status, mut problem) = answer(request).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{problem}");
        problem["trace_id"] = Value::Null;
        bodies.push(problem);
    }
    assert_eq!(bodies[0]["type"], "/errors/unknown-task");
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "{bodies:?}");
    let (status, problem) = answer(platform.get(&format!("/threads/{id}/messages"))).await;
    assert_eq!((status, &problem["type"]), (StatusCode::NOT_FOUND, &json!("/errors/unknown-thread")));
}

#[tokio::test]
async fn a_wait_of_the_client_is_bounded() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    let task = platform.client.wait(id, Duration::from_millis(50)).await.unwrap();
    assert_eq!(task.status, TaskStatus::Queued);
}
