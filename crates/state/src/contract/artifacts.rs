//! Files that are kept with tasks.

use std::time::Duration;

use domain::Lease;
use futures::future::join_all;

use super::Run;
use super::world::{World, assert_lost};
use crate::{Artifact, MAX_ARTIFACT_BYTES, MAX_ARTIFACTS, Retention, StateError};

pub(super) const CASES: &[(&str, Run)] = &[
    ("a_tasks_files_are_listed_by_name", |w| Box::pin(listed(w))),
    ("a_file_of_the_same_name_is_replaced", |w| Box::pin(replaced(w))),
    ("a_task_has_so_many_files_and_no_more", |w| Box::pin(count_limit(w))),
    ("a_tasks_files_have_so_many_bytes_and_no_more", |w| Box::pin(byte_limit(w))),
    ("who_lost_the_lease_writes_no_file", |w| Box::pin(fenced(w))),
    ("files_stay_over_a_retry_and_go_with_their_task", |w| Box::pin(purged(w))),
    ("a_blob_is_referenced_as_long_as_a_file_has_it", |w| Box::pin(references(w))),
];

fn file(world: &World, name: &str, digest: u8) -> Artifact {
    Artifact {
        name: name.to_owned(),
        media_type: "text/plain".to_owned(),
        size: 7,
        digest: [digest; 32],
        at: world.now(),
    }
}

async fn put(world: &World, lease: Lease, artifact: Artifact) {
    world.state.put_artifact(lease, artifact).await.expect("put");
}

async fn files(world: &World, lease: Lease) -> Vec<Artifact> {
    world.state.artifacts(&world.namespace, lease.task).await.expect("read")
}

async fn referenced(world: &World, digests: &[u8]) -> Vec<bool> {
    let digests = digests.iter().map(|digest| [*digest; 32]).collect();
    world.state.referenced(digests).await.expect("read")
}

fn too_large(result: Result<(), StateError>, says: &str) {
    match result {
        Err(StateError::TooLarge(why)) if why.contains(says) => {}
        other => panic!("should be refused because of {says}: {other:?}"),
    }
}

async fn listed(world: World) {
    let (lease, other) = (world.running().await, world.running().await);
    for name in ["b.txt", "a.txt", "dir/c.txt"] {
        put(&world, lease, file(&world, name, 1)).await;
    }
    let wanted: Vec<_> = ["a.txt", "b.txt", "dir/c.txt"].map(|name| file(&world, name, 1)).into();
    assert_eq!(files(&world, lease).await, wanted);
    assert!(files(&world, other).await.is_empty());
    let foreign = domain::Namespace::new("foreign").expect("a valid name");
    assert!(world.state.artifacts(&foreign, lease.task).await.expect("read").is_empty());
    let nobody = domain::TaskId(uuid::Uuid::nil());
    assert!(world.state.artifacts(&world.namespace, nobody).await.expect("read").is_empty());
}

async fn replaced(world: World) {
    let lease = world.running().await;
    for _ in 0..2 {
        put(&world, lease, file(&world, "a.txt", 1)).await;
        assert_eq!(files(&world, lease).await, [file(&world, "a.txt", 1)]);
    }
    world.clock.advance(Duration::from_secs(1));
    let other = Artifact { media_type: "image/png".to_owned(), size: 9, ..file(&world, "a.txt", 2) };
    put(&world, lease, other.clone()).await;
    assert_eq!(files(&world, lease).await, [other]);
    assert_eq!(referenced(&world, &[1, 2]).await, [false, true]);
}

async fn count_limit(world: World) {
    let lease = world.running().await;
    let names: Vec<_> = (0..MAX_ARTIFACTS).map(|number| format!("{number}.txt")).collect();
    join_all(names.iter().map(|name| put(&world, lease, file(&world, name, 1)))).await;
    too_large(world.state.put_artifact(lease, file(&world, "one more", 1)).await, &MAX_ARTIFACTS.to_string());
    put(&world, lease, file(&world, "7.txt", 2)).await;
    assert_eq!(files(&world, lease).await.len(), MAX_ARTIFACTS);
}

async fn byte_limit(world: World) {
    let lease = world.running().await;
    let sized = |name, size| Artifact { size, ..file(&world, name, 1) };
    too_large(world.state.put_artifact(lease, sized("huge", MAX_ARTIFACT_BYTES + 1)).await, "bytes");
    put(&world, lease, sized("a", MAX_ARTIFACT_BYTES - 10)).await;
    put(&world, lease, sized("b", 10)).await;
    too_large(world.state.put_artifact(lease, sized("c", 1)).await, "bytes");
    too_large(world.state.put_artifact(lease, sized("b", u64::MAX)).await, "bytes");
    put(&world, lease, sized("c", 0)).await;
    put(&world, lease, sized("a", 1)).await;
    put(&world, lease, sized("c", 10)).await;
    let sizes: Vec<_> = files(&world, lease).await.iter().map(|file| file.size).collect();
    assert_eq!(sizes, [1, 10, 10]);
}

async fn fenced(world: World) {
    let lease = world.running().await;
    world.state.release(lease).await.expect("released");
    assert_lost(world.state.put_artifact(lease, file(&world, "a", 1)).await, lease);
    let next = world.lease(lease.task).await;
    assert_lost(world.state.put_artifact(lease, file(&world, "a", 1)).await, lease);
    put(&world, next, file(&world, "b", 1)).await;
    assert_eq!(files(&world, lease).await, [file(&world, "b", 1)]);
    world.succeed(next, 1, "done").await;
    assert_lost(world.state.put_artifact(next, file(&world, "a", 1)).await, next);
}

async fn purged(world: World) {
    let lease = world.running().await;
    put(&world, lease, file(&world, "a", 1)).await;
    world.fail(lease).await;
    world.state.retry(&world.namespace, lease.task, false).await.expect("retried");
    let lease = world.lease(lease.task).await;
    put(&world, lease, file(&world, "b", 2)).await;
    assert_eq!(files(&world, lease).await.len(), 2);
    world.succeed(lease, 2, "done").await;
    assert_eq!(files(&world, lease).await.len(), 2);
    let day = Duration::from_hours(24);
    world.clock.advance(day);
    let retention = Retention { ended_tasks: day, idempotency_keys: day };
    world.state.purge(retention, world.now(), 100).await.expect("purged");
    assert!(files(&world, lease).await.is_empty());
    assert_eq!(referenced(&world, &[1, 2]).await, [false, false]);
    world.submitted().await;
    assert_eq!(referenced(&world, &[1]).await, [false], "a new task inherits nothing");
}

async fn references(world: World) {
    let (one, two) = (world.running().await, world.running().await);
    put(&world, one, file(&world, "a", 1)).await;
    put(&world, two, file(&world, "a", 1)).await;
    put(&world, two, file(&world, "b", 2)).await;
    assert_eq!(referenced(&world, &[3, 2, 1, 2]).await, [false, true, true, true]);
    assert!(referenced(&world, &[]).await.is_empty());
    put(&world, one, file(&world, "a", 4)).await;
    assert_eq!(referenced(&world, &[1, 4]).await, [true, true], "the other task still has it");
}
