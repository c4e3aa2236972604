//! What the files keep of budgets: over a crash, over a write that was taken back, and from an older schema.

use std::path::Path;

use domain::{
    Amount, AmountLimit, BudgetAccount, BudgetWindow, Lease, ManualClock, Namespace, OnLimit, StepBody, TaskId,
    TaskStatus, Timestamp, Usage,
};
use rusqlite::{Connection, params};
use state::{Artifact, Reserve, ReserveId, Reserved, State, StateError};
use state_sqlite::{SqliteOptions, SqliteState};

use crate::support::{claim, clock, model, new_task, open, running, success};

const MODEL: ReserveId = ReserveId::Model { seq: 1 };
const TOOLS: ReserveId = ReserveId::Tools { seq: 1 };

async fn payer(store: &SqliteState, clock: &ManualClock) -> Lease {
    let mut task = new_task(clock);
    let limit = AmountLimit { tokens: Some(1_000), ..AmountLimit::default() };
    for (key, window) in [(format!("task/{}", task.id), BudgetWindow::Task), ("namespace".into(), BudgetWindow::Day)] {
        task.terms.accounts.push(BudgetAccount { key, window, limit, on_limit: OnLimit::Stop });
    }
    let task = store.submit(task).await.expect("submitted").task.id;
    claim(store, task, clock).await.expect("claimed")
}

async fn reserve(store: &SqliteState, lease: Lease, id: ReserveId, tokens: u64, at: Timestamp) {
    let amount = Amount { tokens, ..Amount::default() };
    let reserve = Reserve { id, amount, grants: Vec::new(), at };
    let reserved = store.reserve(lease, Vec::new(), reserve).await.expect("answered");
    assert!(matches!(reserved, Reserved::Granted { .. }), "{reserved:?}");
}

async fn stands(store: &SqliteState, task: TaskId, now: Timestamp) -> Vec<(u64, u64)> {
    let levels = store.budget(&Namespace::default(), task, now).await.expect("read");
    levels.iter().map(|level| (level.spent, level.reserved)).collect()
}

#[tokio::test]
async fn a_crash_loses_no_reservation_and_spends_what_was_open() {
    let (dir, copy, clock) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("another"), clock());
    let now = domain::Clock::now(clock.as_ref());
    let store = open(dir.path(), &clock);
    let lease = payer(&store, &clock).await;
    reserve(&store, lease, TOOLS, 10, now).await;
    reserve(&store, lease, MODEL, 100, now).await;
    assert_eq!(stands(&store, lease.task, now).await, [(10, 100), (10, 100)]);
    // What a power cut would leave: the files as they are when the reservation was answered.
    for name in ["agentrunner.db", "agentrunner.db-wal"] {
        std::fs::copy(dir.path().join(name), copy.path().join(name)).expect("copied");
    }
    drop(store);
    let store = open(copy.path(), &clock);
    assert_eq!(stands(&store, lease.task, now).await, [(110, 0), (110, 0)]);
    let next = claim(&store, lease.task, &clock).await.expect("claimed");
    reserve(&store, next, TOOLS, 10, now).await;
    reserve(&store, next, MODEL, 200, now).await;
    assert_eq!(stands(&store, lease.task, now).await, [(110, 200), (110, 200)], "the tools were paid before");
    drop(store);
    let store = open(copy.path(), &clock);
    let next = claim(&store, lease.task, &clock).await.expect("claimed");
    reserve(&store, next, MODEL, 50, now).await;
    store.finish(next, success(&clock)).await.expect("finished");
    assert_eq!(stands(&store, lease.task, now).await, [(360, 0), (360, 0)]);
}

#[tokio::test]
async fn a_write_that_was_taken_back_leaves_reservations_as_they_were() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let now = domain::Clock::now(clock.as_ref());
    let options = SqliteOptions { max_pages: Some(300), ..SqliteOptions::new(dir.path()) };
    let store = SqliteState::open(options, std::sync::Arc::clone(&clock) as std::sync::Arc<dyn domain::Clock>);
    let store = store.expect("the store opens");
    let lease = payer(&store, &clock).await;
    reserve(&store, lease, ReserveId::Model { seq: 9_999 }, 100, now).await;
    let random = |n: u64| {
        let words = (0..4_000_u64).map(|i| (i + n).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_string());
        words.collect::<String>()
    };
    let mut seq = 1;
    let refused = loop {
        match store.append(lease, vec![model(seq, &random(u64::from(seq)), &clock)]).await {
            Ok(()) => seq += 1,
            Err(error) => break error,
        }
        assert!(seq < 1_000, "the disk never gets full");
    };
    assert!(refused.to_string().contains("the disk is full"), "{refused}");
    store.settle(lease, ReserveId::Model { seq: 9_999 }, Amount::default()).await.expect("settled");
    let last = ReserveId::Model { seq };
    reserve(&store, lease, last, 70, now).await;
    assert_eq!(stands(&store, lease.task, now).await, [(0, 70), (0, 70)], "the lease still knows what it had open");
}

#[tokio::test]
async fn a_task_without_accounts_never_looks_at_one() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let now = domain::Clock::now(clock.as_ref());
    let store = open(dir.path(), &clock);
    let foreign = Connection::open(dir.path().join("agentrunner.db")).expect("the database opens");
    foreign.execute_batch("DROP TABLE accounts; DROP TABLE reservations; DROP TABLE paid_tools;").expect("dropped");
    let lease = running(&store, &clock).await;
    reserve(&store, lease, ReserveId::Model { seq: 2 }, 9, now).await;
    let amount = Amount { tokens: 9, ..Amount::default() };
    let tools = Reserve { id: TOOLS, amount, grants: Vec::new(), at: now };
    store.reserve(lease, vec![model(2, "words", &clock)], tools).await.expect("granted");
    store.settle(lease, MODEL, amount).await.expect("ignored");
    store.release(lease).await.expect("released");
    let lease = claim(&store, lease.task, &clock).await.expect("claimed");
    let held = store.leases().await.expect("leases");
    store.reap(held, 5, now).await.expect("reaped");
    let lease = claim(&store, lease.task, &clock).await.expect("claimed");
    store.finish(lease, success(&clock)).await.expect("finished");
    let cancelled = running(&store, &clock).await;
    store.cancel(&Namespace::default(), cancelled.task).await.expect("asked");
    store.release(cancelled).await.expect("released");
}

/// Fills a directory as the first schema had it: tasks that succeeded, run and wait in the queue.
fn schema_one(dir: &Path) -> [TaskId; 3] {
    let conn = Connection::open(dir.join("agentrunner.db")).expect("the database opens");
    conn.execute_batch(include_str!("../../../../migrations/sqlite/0001_record.sql")).expect("the first schema");
    conn.pragma_update(None, "user_version", 1).expect("updated");
    let ids = [1_u128, 2, 3].map(|id| TaskId(uuid::Uuid::from_u128(id)));
    for ((id, status), key) in ids.iter().zip([3, 1, 0]).zip(1_i64..) {
        let worker = (status == 1).then_some([9_u8; 16]);
        let finished_at = (status == 3).then_some(2_000_i64);
        conn.execute(
            "INSERT INTO tasks (key, id, namespace, digest, agent, agent_version, mode, status, priority, epoch, worker, \
             created_at, depth, finished_at, input_tokens, output_tokens, announced_at) \
             VALUES (?1, ?2, 'default', x'07', 'writer', 1, 0, ?3, 5, 3, ?4, 1000, 0, ?5, 12, 34, 1000)",
            params![key, id.0.as_bytes(), status, worker, finished_at],
        )
        .expect("inserted");
        let input = r#"{"type":"input","prompt":"say something"}"#;
        conn.execute(
            "INSERT INTO steps (place, epoch, at, enc, body) VALUES (?1 << 20, 0, 1000, 0, ?2)",
            params![key, input.as_bytes()],
        )
        .expect("inserted");
    }
    ids
}

#[tokio::test]
async fn a_directory_of_the_first_schema_is_brought_up_to_date() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let [ended, running, queued] = schema_one(dir.path());
    let store = open(dir.path(), &clock);
    let namespace = Namespace::default();
    let task = async |id| store.task(&namespace, id).await.expect("read").expect("kept");
    let old = task(ended).await;
    assert_eq!((old.status, old.usage), (TaskStatus::Succeeded, Usage::tokens(12, 34)));
    assert!(old.terms.is_empty());
    assert_eq!(task(running).await.status, TaskStatus::Queued);
    assert!(stands(&store, ended, old.created_at).await.is_empty());
    for id in [running, queued] {
        let lease = claim(&store, id, &clock).await.expect("claimed");
        let journal = store.journal(&namespace, id, 0, 10).await.expect("read");
        assert!(matches!(journal[0].body, StepBody::Input(_)));
        reserve(&store, lease, MODEL, 5, old.created_at).await;
        let mut finish = success(&clock);
        finish.usage = Usage { cached_input_tokens: 3, cost: domain::Usd(7), ..Usage::tokens(5, 6) };
        finish.steps.push(model(journal.len() as u32, "done", &clock));
        store.finish(lease, finish.clone()).await.expect("finished");
        assert_eq!(task(id).await.usage, finish.usage);
    }
    let lease = payer(&store, &clock).await;
    let file = Artifact {
        name: "a.txt".to_owned(),
        media_type: "text/plain".to_owned(),
        size: 3,
        digest: [1; 32],
        at: old.created_at,
    };
    store.put_artifact(lease, file.clone()).await.expect("put");
    assert_eq!(store.artifacts(&namespace, lease.task).await.expect("read"), [file]);
}

#[tokio::test]
async fn terms_that_are_not_understood_are_an_error_and_not_a_task_without_limits() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let store = open(dir.path(), &clock);
    let lease = payer(&store, &clock).await;
    store.release(lease).await.expect("released");
    let foreign = Connection::open(dir.path().join("agentrunner.db")).expect("the database opens");
    foreign.execute("UPDATE tasks SET terms = '{'", []).expect("updated");
    let claim = state::Claim {
        task: lease.task,
        worker: domain::WorkerId(uuid::Uuid::nil()),
        now: domain::Clock::now(clock.as_ref()),
        thread_messages: 0,
    };
    let refused = store.claim(claim).await.expect_err("corrupt");
    assert!(matches!(refused, StateError::Corrupt(_)), "{refused}");
}
