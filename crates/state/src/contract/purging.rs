//! Retention.

use std::time::Duration;

use domain::{NewTask, TaskId};
use serde_json::json;

use super::Run;
use super::world::World;
use crate::{Purged, PutCondition, Retention, StateError};

pub(super) const CASES: &[(&str, Run)] = &[
    ("what_ended_long_ago_is_deleted_with_its_journal", |w| Box::pin(old_tasks(w))),
    ("a_family_is_kept_as_long_as_its_parent", |w| Box::pin(families(w))),
    ("a_purge_works_in_portions", |w| Box::pin(portions(w))),
    ("a_key_outlives_its_task_for_a_while", |w| Box::pin(keys(w))),
    ("expired_values_are_deleted", |w| Box::pin(values(w))),
];

const DAY: Duration = Duration::from_hours(24);
const RETENTION: Retention = Retention { ended_tasks: DAY, idempotency_keys: Duration::from_hours(72) };

async fn purge(world: &World, limit: u32) -> Purged {
    world.state.purge(RETENTION, world.now(), limit).await.expect("purged")
}

async fn exists(world: &World, task: TaskId) -> bool {
    world.state.task(&world.namespace, task).await.expect("read").is_some()
}

async fn old_tasks(world: World) {
    let old = world.running().await;
    world.succeed(old, 1, "done").await;
    let waiting = world.submitted().await;
    world.clock.advance(DAY);
    let young = world.running().await;
    world.succeed(young, 1, "done").await;
    assert_eq!(purge(&world, 100).await, Purged { tasks: 1, values: 0 });
    assert!(!exists(&world, old.task).await && exists(&world, young.task).await && exists(&world, waiting).await);
    assert!(world.journal(old.task).await.is_empty());
    assert_eq!(world.kinds(young.task).await, ["input", "model"]);
    let after = world.state.tasks(&world.namespace, crate::TaskFilter::default(), Some(young.task), 10).await;
    assert_eq!(after.expect("read").items.len(), 1, "a cursor survives what is purged around it");
    let gone = world.state.tasks(&world.namespace, crate::TaskFilter::default(), Some(old.task), 10).await;
    assert!(gone.expect("read").items.is_empty(), "the cursor's own task may be purged");
    assert_eq!(purge(&world, 100).await, Purged::default());
}

async fn families(world: World) {
    let (parent, child) = world.family().await;
    let lease = world.lease(child).await;
    world.succeed(lease, 1, "child").await;
    world.clock.advance(DAY + DAY);
    assert_eq!(purge(&world, 100).await, Purged::default(), "the parent has not ended");
    let lease = world.lease(parent).await;
    world.succeed(lease, 3, "parent").await;
    assert_eq!(purge(&world, 100).await, Purged::default(), "the parent has just ended");
    world.clock.advance(DAY);
    assert_eq!(purge(&world, 100).await, Purged { tasks: 2, values: 0 });
    assert!(!exists(&world, parent).await && !exists(&world, child).await);
}

async fn portions(world: World) {
    for _ in 0..6 {
        let lease = world.running().await;
        world.succeed(lease, 1, "done").await;
    }
    world.clock.advance(DAY);
    let mut tasks = 0;
    let mut calls = 0;
    loop {
        let purged = purge(&world, 3).await;
        if purged.tasks == 0 {
            break;
        }
        assert!(purged.tasks <= 3);
        tasks += purged.tasks;
        calls += 1;
    }
    assert_eq!(tasks, 6);
    assert!(calls >= 2);
}

async fn keys(world: World) {
    let new = || NewTask { idempotency_key: Some("key".to_owned()), ..world.new_task() };
    let first = world.submit(new()).await.id;
    let lease = world.lease(first).await;
    world.succeed(lease, 1, "done").await;
    world.clock.advance(DAY);
    assert_eq!(purge(&world, 100).await.tasks, 1);
    let again = world.state.submit(new()).await.map(|submitted| submitted.created);
    assert!(matches!(again, Err(StateError::Ended { task, .. }) if task == first), "it must not run twice: {again:?}");
    world.clock.advance(DAY + DAY);
    purge(&world, 100).await;
    assert!(world.state.submit(new()).await.expect("the key is forgotten").created);
}

async fn values(world: World) {
    let put = |key, expires_at| {
        world.state.put_value(&world.namespace, "scope", key, json!(1), expires_at, PutCondition::Always, world.now())
    };
    put("gone", Some(world.after(5))).await.expect("put");
    put("stays", Some(world.after(500))).await.expect("put");
    put("for ever", None).await.expect("put");
    world.clock.advance(Duration::from_secs(5));
    assert_eq!(purge(&world, 100).await, Purged { tasks: 0, values: 1 });
    assert_eq!(world.state.stats(None).await.expect("stats").values, 2);
}
