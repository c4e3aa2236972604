//! Recording tasks.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::{Namespace, NewTask, StepBody, TaskStatus};
use futures::future::join_all;
use serde_json::json;

use super::Run;
use super::world::{World, agent};
use crate::StateError;

pub(super) const CASES: &[(&str, Run)] = &[
    ("a_submitted_task_is_queued_with_its_input", |w| Box::pin(recorded(w))),
    ("the_same_key_names_the_first_task", |w| Box::pin(same_key(w))),
    ("the_same_key_with_another_digest_is_refused", |w| Box::pin(other_digest(w))),
    ("the_same_id_without_a_key_is_recorded_once", |w| Box::pin(same_id(w))),
    ("a_key_belongs_to_its_namespace", |w| Box::pin(keys_of_namespaces(w))),
    ("fifty_submits_of_one_key_make_one_task", |w| Box::pin(concurrent(w))),
    ("a_sub_task_of_a_parent_that_has_ended_is_refused", |w| Box::pin(ended_parent(w))),
    ("an_input_above_the_limit_is_refused_and_leaves_nothing", |w| Box::pin(too_large(w))),
];

async fn recorded(world: World) {
    let mut new = world.new_task();
    new.input.data = Some(json!({"numbers": [1, 2.5, null], "text": "ü \u{1F600} \" \\"}));
    new.run_at = Some(world.after(10));
    new.expires_at = Some(world.after(20));
    new.deadline = Some(world.after(30));
    new.thread = Some(World::thread());
    new.user = Some("ann".to_owned());
    new.metadata = BTreeMap::from([("team".to_owned(), "blue".to_owned())]);
    new.trace = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
    new.idempotency_key = Some("key".to_owned());
    let task = world.submit(new.clone()).await;
    assert_eq!(task, world.task(new.id).await, "what submit answers is what is stored");
    assert_eq!(task.status, TaskStatus::Queued);
    assert_eq!((task.attempt, task.epoch, task.worker), (0, 0, None));
    assert_eq!((&task.agent, task.agent_version), (&agent("writer"), 3));
    assert_eq!(task.idempotency_key.as_deref(), Some("key"));
    assert_eq!((task.run_at, task.expires_at, task.deadline), (new.run_at, new.expires_at, new.deadline));
    assert_eq!((&task.thread, &task.user, &task.metadata), (&new.thread, &new.user, &new.metadata));
    assert_eq!((&task.trace, task.created_at), (&new.trace, new.created_at));
    let journal = world.journal(task.id).await;
    assert_eq!(journal.len(), 1);
    assert_eq!((journal[0].seq, journal[0].epoch, journal[0].at), (0, 0, new.created_at));
    assert_eq!(journal[0].body, StepBody::Input(new.input));
}

async fn same_key(world: World) {
    let first = NewTask { idempotency_key: Some("once".to_owned()), ..world.new_task() };
    let task = world.submit(first.clone()).await;
    let second = NewTask { idempotency_key: first.idempotency_key.clone(), ..world.new_task() };
    assert_ne!(second.id, first.id);
    let again = world.state.submit(second).await.expect("known");
    assert!(!again.created);
    assert_eq!(again.task, task);
    assert_eq!(world.kinds(task.id).await, ["input"]);
}

async fn other_digest(world: World) {
    let first = NewTask { idempotency_key: Some("once".to_owned()), ..world.new_task() };
    world.submit(first.clone()).await;
    let second = NewTask { digest: [8; 32], idempotency_key: first.idempotency_key.clone(), ..world.new_task() };
    let refused = world.state.submit(second).await;
    assert!(matches!(refused, Err(StateError::IdempotencyMismatch { task }) if task == first.id), "{refused:?}");
}

async fn same_id(world: World) {
    let new = world.new_task();
    world.submit(new.clone()).await;
    assert!(!world.state.submit(new.clone()).await.expect("known").created);
    let other = NewTask { digest: [8; 32], ..new.clone() };
    assert!(matches!(world.state.submit(other).await, Err(StateError::IdempotencyMismatch { .. })));
    let foreign = NewTask { namespace: Namespace::new("other").expect("a valid name"), ..new.clone() };
    assert!(matches!(world.state.submit(foreign).await, Err(StateError::IdempotencyMismatch { .. })));
    assert_eq!(world.kinds(new.id).await, ["input"]);
}

async fn keys_of_namespaces(world: World) {
    let other = Namespace::new("other").expect("a valid name");
    let first = NewTask { idempotency_key: Some("k".to_owned()), ..world.new_task() };
    let second = NewTask {
        idempotency_key: Some("k".to_owned()),
        namespace: other.clone(),
        digest: [9; 32],
        ..world.new_task()
    };
    world.submit(first.clone()).await;
    world.submit(second.clone()).await;
    assert_eq!(world.state.task(&other, first.id).await.expect("read"), None);
    assert!(world.state.task(&other, second.id).await.expect("read").is_some());
    assert!(world.state.journal(&other, first.id, 0, 10).await.expect("read").is_empty());
}

async fn concurrent(world: World) {
    let submits = (0..50).map(|_| {
        let task = NewTask { idempotency_key: Some("one".to_owned()), ..world.new_task() };
        let state = Arc::clone(&world.state);
        tokio::spawn(async move { state.submit(task).await.expect("submitted") })
    });
    let answers: Vec<_> = join_all(submits).await.into_iter().map(|answer| answer.expect("no submit panics")).collect();
    assert_eq!(answers.iter().filter(|answer| answer.created).count(), 1);
    assert!(answers.iter().all(|answer| answer.task.id == answers[0].task.id));
    assert_eq!(world.state.stats(None).await.expect("stats").tasks.values().sum::<u64>(), 1);
}

async fn ended_parent(world: World) {
    let lease = world.running().await;
    world.succeed(lease, 1, "done").await;
    let refused = world.state.submit(world.new_child(lease.task, "call")).await;
    assert!(matches!(refused, Err(StateError::Ended { task, .. }) if task == lease.task), "{refused:?}");
}

async fn too_large(world: World) {
    let mut new = world.new_task();
    new.input.prompt = "x".repeat(17 * 1024 * 1024);
    let id = new.id;
    let refused = world.state.submit(new).await.map(|submitted| submitted.created);
    assert!(matches!(refused, Err(StateError::TooLarge(_))), "{refused:?}");
    assert_eq!(world.state.task(&world.namespace, id).await.expect("read"), None);
}
