//! What a store finds when it opens a directory that another one left.

use std::time::Duration;

use domain::{FailureKind, Namespace, StepBody, TaskStatus};
use state::{Park, State, StateError, TaskFilter};

use crate::support::{claim, clock, model, new_task, open, running, submit, success};

#[tokio::test]
async fn what_was_acknowledged_is_there_after_the_store_is_dropped() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let namespace = Namespace::default();
    let store = open(dir.path(), &clock);
    let mut tasks = Vec::new();
    for n in 0..50 {
        let lease = running(&store, &clock).await;
        if n % 2 == 0 {
            store.finish(lease, success(&clock)).await.expect("finished");
        }
        let task = store.task(&namespace, lease.task).await.expect("read").expect("exists");
        tasks.push((task, store.journal(&namespace, lease.task, 0, 10).await.expect("read")));
    }
    drop(store);
    let store = open(dir.path(), &clock);
    for (before, journal) in tasks {
        let after = store.task(&namespace, before.id).await.expect("read").expect("kept");
        let kept = store.journal(&namespace, before.id, 0, 10).await.expect("read");
        assert_eq!(kept[..journal.len()], journal);
        if before.status.is_terminal() {
            assert_eq!(after, before);
        }
    }
}

#[tokio::test]
async fn what_was_running_is_queued_again_and_the_old_lease_is_void() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let namespace = Namespace::default();
    let store = open(dir.path(), &clock);
    let lease = running(&store, &clock).await;
    store.close().await;
    let store = open(dir.path(), &clock);
    let task = store.task(&namespace, lease.task).await.expect("read").expect("kept");
    assert_eq!((task.status, task.worker, task.attempt), (TaskStatus::Queued, None, 0));
    let journal = store.journal(&namespace, lease.task, 0, 10).await.expect("read");
    assert!(matches!(journal.last().expect("steps").body, StepBody::LeaseLost { .. }));
    assert!(store.leases().await.expect("leases").is_empty());
    let refused = store.append(lease, vec![model(3, "zombie", &clock)]).await;
    assert!(matches!(refused, Err(StateError::LeaseLost { .. })), "{refused:?}");
    let next = claim(&store, lease.task, &clock).await.expect("claimed");
    assert!(next.epoch > lease.epoch);
}

#[tokio::test]
async fn everything_queued_is_announced_anew_once() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let store = open(dir.path(), &clock);
    let queued = submit(&store, &clock).await;
    let lease = running(&store, &clock).await;
    let mut delayed = new_task(&clock);
    delayed.run_at = Some(delayed.created_at + Duration::from_secs(5));
    let delayed = store.submit(delayed).await.expect("submitted").task;
    drop(store);
    let store = open(dir.path(), &clock);
    let due = store.due(delayed.created_at, Duration::from_hours(1), 100).await.expect("due");
    let ready: Vec<_> = due.transition.ready.iter().map(|ready| ready.task).collect();
    assert_eq!((ready, due.next), (vec![queued, lease.task], delayed.run_at));
    let again = store.due(delayed.created_at, Duration::from_hours(1), 100).await.expect("due");
    assert!(again.transition.ready.is_empty());
}

#[tokio::test]
async fn a_task_that_takes_every_process_with_it_fails() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let namespace = Namespace::default();
    let mut store = open(dir.path(), &clock);
    let task = submit(&store, &clock).await;
    for _ in 0..5 {
        assert!(claim(&store, task, &clock).await.is_some());
        drop(store);
        store = open(dir.path(), &clock);
    }
    let task = store.task(&namespace, task).await.expect("read").expect("kept");
    assert_eq!(task.status, TaskStatus::Failed);
    assert_eq!(task.failure.map(|failure| failure.kind), Some(FailureKind::WorkerLost));
}

#[tokio::test]
async fn a_wish_to_stop_survives_the_process() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let namespace = Namespace::default();
    let store = open(dir.path(), &clock);
    let lease = running(&store, &clock).await;
    store.cancel(&namespace, lease.task).await.expect("asked");
    drop(store);
    let store = open(dir.path(), &clock);
    let task = store.task(&namespace, lease.task).await.expect("read").expect("kept");
    assert_eq!((task.status, task.cancel_requested), (TaskStatus::Cancelled, false));
}

#[tokio::test]
async fn a_claim_that_nobody_waited_for_is_durable_with_the_next_write() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let store = open(dir.path(), &clock);
    let task = submit(&store, &clock).await;
    let lease = claim(&store, task, &clock).await.expect("claimed");
    store.append(lease, vec![model(1, "thinking", &clock)]).await.expect("appended");
    // Read from the file by another connection, not from anything the store remembers.
    let conn = rusqlite::Connection::open(dir.path().join("agentrunner.db")).expect("open");
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let stored: (i64, u32) = conn.query_row("SELECT status, epoch FROM tasks", [], read).expect("read");
    assert_eq!(stored, (1, lease.epoch));
}

#[tokio::test]
async fn a_claim_alone_becomes_durable_too() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let store = open(dir.path(), &clock);
    let task = submit(&store, &clock).await;
    claim(&store, task, &clock).await.expect("claimed");
    let running = TaskFilter { statuses: vec![TaskStatus::Running], ..TaskFilter::default() };
    let visible = async {
        while store.tasks(&Namespace::default(), running.clone(), None, 1).await.expect("read").items.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), visible).await.expect("the claim is committed soon");
}

#[tokio::test]
async fn a_family_is_taken_up_whole() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let namespace = Namespace::default();
    let store = open(dir.path(), &clock);
    let lease = running(&store, &clock).await;
    let mut child = new_task(&clock);
    child.parent = Some(domain::ParentRef { task: lease.task, call_id: "call".to_owned() });
    let on = domain::WaitFor::Child { task: child.id, agent: child.agent.clone() };
    let wait = domain::Wait { call_id: "call".to_owned(), on, expires_at: None, default: None };
    let child_id = child.id;
    let park = Park { steps: Vec::new(), seq: 2, at: child.created_at, waits: vec![wait], children: vec![child] };
    store.park(lease, park).await.expect("parked");
    claim(&store, child_id, &clock).await.expect("claimed");
    drop(store);
    let store = open(dir.path(), &clock);
    let task = store.task(&namespace, lease.task).await.expect("read").expect("kept");
    assert_eq!(task.status, TaskStatus::Waiting);
    let next = claim(&store, child_id, &clock).await.expect("the child goes on");
    let journal = store.journal(&namespace, child_id, 0, 10).await.expect("read");
    let mut finish = success(&clock);
    finish.steps = vec![model(journal.len() as u32, "done", &clock)];
    let transition = store.finish(next, finish).await.expect("finished");
    assert_eq!(transition.ready.iter().map(|ready| ready.task).collect::<Vec<_>>(), [lease.task]);
}

#[tokio::test]
async fn an_epoch_that_may_have_been_given_is_not_given_again() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let store = open(dir.path(), &clock);
    let task = submit(&store, &clock).await;
    store.close().await;
    // The claim of a process that died before it was durable left nothing behind.
    let store = open(dir.path(), &clock);
    let next = claim(&store, task, &clock).await.expect("claimed");
    assert!(next.epoch > 1);
}
