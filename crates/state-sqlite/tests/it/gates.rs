//! What becomes of gates when the store is opened anew, and when a transaction is taken back.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use domain::{Clock, Gate, GateLimit, ManualClock, NewTask, TaskId, Terms};
use state::{State, StateError, Transition};
use state_sqlite::SqliteState;

use crate::support::{claim, clock, model, new_task, open, success};

fn running(max: u32) -> Gate {
    Gate { key: "agent/a".to_owned(), limit: GateLimit::Running { max } }
}

fn starting(max: u32, seconds: u64) -> Gate {
    Gate { key: "agent/a".to_owned(), limit: GateLimit::Starts { max, per_ms: seconds * 1_000 } }
}

async fn submit(store: &SqliteState, clock: &ManualClock, gates: &[Gate], priority: u8) -> TaskId {
    let terms = Terms { gates: gates.to_vec(), ..Terms::default() };
    store.submit(NewTask { terms, priority, ..new_task(clock) }).await.expect("submitted").task.id
}

async fn due(store: &SqliteState, clock: &ManualClock) -> Vec<TaskId> {
    ready(&store.due(clock.now(), Duration::from_mins(1), 100).await.expect("due").transition)
}

fn ready(transition: &Transition) -> Vec<TaskId> {
    transition.ready.iter().map(|ready| ready.task).collect()
}

async fn reopen(store: Arc<SqliteState>, dir: &Path, clock: &Arc<ManualClock>) -> Arc<SqliteState> {
    store.close().await;
    drop(store);
    open(dir, clock)
}

#[tokio::test]
async fn limits_hold_after_the_store_is_opened_anew_and_whoever_ran_goes_first() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let gates = [running(2)];
    let store = open(dir.path(), &clock);
    let mut tasks = Vec::new();
    for _ in 0..5 {
        let task = submit(&store, &clock, &gates, 5).await;
        if let Some(lease) = claim(&store, task, &clock).await {
            store.append(lease, vec![model(1, "thinking", &clock)]).await.expect("appended");
        }
        tasks.push(task);
    }
    let urgent = submit(&store, &clock, &gates, 9).await;
    assert!(claim(&store, urgent, &clock).await.is_none());
    let store = reopen(store, dir.path(), &clock).await;
    assert_eq!(due(&store, &clock).await, [urgent, tasks[0]], "by priority and age");
    assert_eq!(due(&store, &clock).await, []);
    let first = claim(&store, urgent, &clock).await.expect("claimed");
    claim(&store, tasks[0], &clock).await.expect("claimed");
    for task in &tasks[1..] {
        assert!(claim(&store, *task, &clock).await.is_none());
    }
    let wait = store.gate(&new_task(&clock).namespace, tasks[2], clock.now()).await.expect("read").expect("held back");
    assert_eq!((wait.holders, wait.position), (vec![urgent, tasks[0]], 2));
    let transition = store.finish(first, success(&clock)).await.expect("finished");
    assert_eq!(ready(&transition), [tasks[1]]);
}

#[tokio::test]
async fn whoever_was_called_when_the_store_was_left_keeps_its_turn() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    for gates in [[running(1)], [starting(1, 20)]] {
        let gates = gates.map(|gate| Gate { key: format!("{:?}", gate.limit), ..gate });
        let store = open(dir.path(), &clock);
        let holder = submit(&store, &clock, &gates, 5).await;
        let lease = claim(&store, holder, &clock).await.expect("claimed");
        let (next, last) = (submit(&store, &clock, &gates, 5).await, submit(&store, &clock, &gates, 5).await);
        assert!(claim(&store, next, &clock).await.is_none() && claim(&store, last, &clock).await.is_none());
        let transition = store.finish(lease, success(&clock)).await.expect("finished");
        clock.advance(Duration::from_secs(21));
        let called = [ready(&transition), due(&store, &clock).await].concat();
        assert_eq!(called, [next]);
        let store = reopen(store, dir.path(), &clock).await;
        assert_eq!(due(&store, &clock).await, [next]);
        assert!(claim(&store, last, &clock).await.is_none());
        let lease = claim(&store, next, &clock).await.expect("claimed");
        store.finish(lease, success(&clock)).await.expect("finished");
        clock.advance(Duration::from_secs(21));
        let lease = claim(&store, last, &clock).await.expect("claimed");
        store.finish(lease, success(&clock)).await.expect("finished");
        store.close().await;
    }
}

#[tokio::test]
async fn starts_are_remembered_and_forgotten() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let gates = [starting(2, 60)];
    let store = open(dir.path(), &clock);
    for _ in 0..2 {
        let task = submit(&store, &clock, &gates, 5).await;
        let lease = claim(&store, task, &clock).await.expect("claimed");
        store.finish(lease, success(&clock)).await.expect("finished");
        clock.advance(Duration::from_secs(10));
    }
    let store = reopen(store, dir.path(), &clock).await;
    let third = submit(&store, &clock, &gates, 5).await;
    assert!(claim(&store, third, &clock).await.is_none());
    clock.advance(Duration::from_secs(40));
    let retention = state::Retention { ended_tasks: Duration::ZERO, idempotency_keys: Duration::ZERO };
    store.purge(retention, clock.now(), 100).await.expect("purged");
    assert_eq!(due(&store, &clock).await, [third]);
    claim(&store, third, &clock).await.expect("claimed");
    let fourth = submit(&store, &clock, &gates, 5).await;
    assert!(claim(&store, fourth, &clock).await.is_none(), "the second start counts although its task is gone");
    clock.advance(Duration::from_mins(10));
    store.purge(retention, clock.now(), 100).await.expect("purged");
    let rows = rusqlite::Connection::open(dir.path().join("agentrunner.db")).expect("opened");
    let starts: i64 = rows.query_row("SELECT count(*) FROM gate_starts", [], |row| row.get(0)).expect("counted");
    assert_eq!(starts, 0);
}

#[tokio::test]
async fn a_write_that_is_taken_back_gives_no_place_away() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let gates = [running(1)];
    let store = open(dir.path(), &clock);
    let holder = submit(&store, &clock, &gates, 5).await;
    let lease = claim(&store, holder, &clock).await.expect("claimed");
    let waiting = submit(&store, &clock, &gates, 5).await;
    assert!(claim(&store, waiting, &clock).await.is_none());
    // It waits for a sub-task that does not exist, which is found out after the lease was given up.
    let on = domain::WaitFor::Child { task: new_task(&clock).id, agent: new_task(&clock).agent };
    let wait = domain::Wait { call_id: "call-1".to_owned(), on, expires_at: None, default: None };
    let park = state::Park { steps: Vec::new(), seq: 1, at: clock.now(), waits: vec![wait], children: Vec::new() };
    let refused = store.park(lease, park).await;
    assert!(matches!(refused, Err(StateError::UnknownTask { .. })), "{refused:?}");
    assert!(claim(&store, waiting, &clock).await.is_none());
    assert_eq!(due(&store, &clock).await, []);
    let transition = store.finish(lease, success(&clock)).await.expect("finished");
    assert_eq!(ready(&transition), [waiting]);
}
