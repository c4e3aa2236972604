//! The data directory: who may open it, and what happens when a foreign hand was in it.

use std::path::Path;

use domain::Namespace;
use rusqlite::Connection;
use serde_json::json;
use state::{PutCondition, State, StateError};
use state_sqlite::{SqliteOptions, SqliteState};

use crate::support::{clock, model, new_task, open, running, submit, success, try_open};

fn database(dir: &Path) -> Connection {
    Connection::open(dir.join("agentrunner.db")).expect("the database opens")
}

#[tokio::test]
async fn a_directory_in_use_is_refused_with_the_holders_pid() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let store = open(dir.path(), &clock);
    let refused = try_open(dir.path(), &clock).expect_err("refused").to_string();
    let wanted = format!("is in use by another agentrunner process (pid {})", std::process::id());
    assert!(refused.contains(&wanted), "{refused}");
    store.close().await;
    open(dir.path(), &clock);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    drop(open(dir.path(), &clock));
    database(dir.path()).pragma_update(None, "user_version", 99).expect("updated");
    let refused = try_open(dir.path(), &clock).expect_err("refused").to_string();
    assert!(refused.contains("newer agentrunner (schema 99"), "{refused}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    std::fs::write(dir.path().join("agentrunner.db"), "not a database ".repeat(1_000)).expect("written");
    let refused = try_open(dir.path(), &clock).expect_err("refused");
    assert!(matches!(refused, StateError::Corrupt(_)), "{refused}");
}

#[tokio::test]
async fn a_row_that_is_not_understood_is_an_error_and_hurts_no_other() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let namespace = Namespace::default();
    let store = open(dir.path(), &clock);
    let (bad, good) = (running(&store, &clock).await, running(&store, &clock).await);
    let foreign = database(dir.path());
    let id = bad.task.0.as_bytes();
    foreign.execute("UPDATE tasks SET metadata = '{' WHERE id = ?1", [id]).expect("updated");
    foreign.execute("UPDATE steps SET body = x'7b' WHERE place = (1 << 20) | 1", []).expect("updated");
    let corrupt = |error: StateError| assert!(matches!(error, StateError::Corrupt(_)), "{error}");
    corrupt(store.task(&namespace, bad.task).await.expect_err("corrupt"));
    corrupt(store.journal(&namespace, bad.task, 0, 10).await.expect_err("corrupt"));
    foreign.execute("UPDATE tasks SET metadata = NULL, mode = 9 WHERE id = ?1", [id]).expect("updated");
    corrupt(store.release(bad).await.expect_err("corrupt"));
    store.finish(good, success(&clock)).await.expect("the other task is not affected");
    foreign.execute("UPDATE tasks SET mode = 0 WHERE id = ?1", [id]).expect("updated");
    store.finish(bad, success(&clock)).await.expect("the refused release left nothing behind");
}

#[tokio::test]
async fn a_full_disk_refuses_the_write_and_loses_nothing() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let namespace = Namespace::default();
    let store = SqliteState::open(
        SqliteOptions { max_pages: Some(200), ..SqliteOptions::new(dir.path()) },
        std::sync::Arc::clone(&clock) as std::sync::Arc<dyn domain::Clock>,
    )
    .expect("the store opens");
    let lease = running(&store, &clock).await;
    let random = |n: u64| {
        let words = (0..4_000_u64).map(|i| (i + n).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_string());
        words.collect::<String>()
    };
    let mut seq = 2;
    let refused = loop {
        match store.append(lease, vec![model(seq, &random(u64::from(seq)), &clock)]).await {
            Ok(()) => seq += 1,
            Err(error) => break error,
        }
        assert!(seq < 1_000, "the disk never gets full");
    };
    assert!(refused.to_string().contains("the disk is full"), "{refused}");
    assert!(refused.is_transient());
    let journal = store.journal(&namespace, lease.task, 0, 1_000).await.expect("read");
    assert_eq!(journal.len() as u32, seq, "what was acknowledged is there, and nothing else");
    store.value(&namespace, "scope", "key", domain::Timestamp::UNIX_EPOCH).await.expect("reads go on");
    store.append(lease, vec![model(seq, "a short step still fits", &clock)]).await.expect("the lease is still held");
}

#[tokio::test]
async fn long_bodies_are_stored_compressed() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let namespace = Namespace::default();
    let store = open(dir.path(), &clock);
    let text = "the same words again and again ".repeat(10_000);
    let mut new = new_task(&clock);
    new.input.prompt.clone_from(&text);
    let task = store.submit(new).await.expect("submitted").task.id;
    let put =
        store.put_value(&namespace, "s", "k", json!(text), None, PutCondition::Always, domain::Timestamp::UNIX_EPOCH);
    put.await.expect("put");
    submit(&store, &clock).await;
    let conn = database(dir.path());
    let encodings = |sql: &str| -> Vec<(i64, i64)> {
        let mut statement = conn.prepare(sql).expect("prepared");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("read");
        rows.collect::<Result<_, _>>().expect("read")
    };
    let steps = encodings("SELECT enc, length(body) FROM steps ORDER BY key");
    assert_eq!((steps[0].0, steps[1].0), (1, 0));
    assert!(steps[0].1 < 10_000);
    let values = encodings("SELECT enc, length(body) FROM state_values");
    assert!(values[0].0 == 1 && values[0].1 < 10_000);
    let journal = store.journal(&namespace, task, 0, 1).await.expect("read");
    let domain::StepBody::Input(input) = &journal[0].body else { panic!("not the input") };
    assert!(input.prompt == text);
}

#[tokio::test]
async fn every_search_of_the_sweepers_uses_its_index() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    drop(open(dir.path(), &clock));
    let conn = database(dir.path());
    for (sql, index) in [
        ("SELECT key FROM tasks WHERE status < 3 AND status = 1", "tasks_live"),
        (
            "SELECT key FROM tasks WHERE status < 3 AND status = 0 AND announced_at IS NULL ORDER BY run_at",
            "tasks_live",
        ),
        (
            "SELECT key FROM tasks WHERE status < 3 AND status = 0 AND announced_at <= 7 ORDER BY announced_at",
            "tasks_live",
        ),
        ("SELECT key FROM tasks WHERE status < 3 AND status > 0 AND thread_key = 7", "tasks_thread_live"),
        (
            "SELECT key FROM tasks WHERE expires_at IS NOT NULL AND started_at IS NULL AND status = 0 AND expires_at <= 7",
            "tasks_expiry",
        ),
        ("SELECT key FROM tasks WHERE deadline IS NOT NULL AND status IN (0, 2) AND deadline <= 7", "tasks_deadline"),
        ("SELECT key FROM tasks WHERE status > 2 AND finished_at <= 7 ORDER BY finished_at", "tasks_ended"),
        ("SELECT key FROM tasks WHERE parent = x'00' AND status < 3", "tasks_parent"),
        ("SELECT key FROM waits WHERE due_at IS NOT NULL ORDER BY due_at, key", "waits_due"),
        ("SELECT key FROM waits WHERE child = x'00' AND child IS NOT NULL", "waits_child"),
        ("SELECT key FROM accounts WHERE span > 0 AND begin_at <= 7 ORDER BY begin_at", "accounts_window"),
        ("SELECT 1 FROM artifacts WHERE digest = x'00'", "artifacts_digest"),
    ] {
        let mut plan = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("prepared");
        let lines: Vec<String> =
            plan.query_map([], |row| row.get(3)).expect("read").collect::<Result<_, _>>().expect("read");
        assert!(lines.iter().any(|line| line.contains(index)), "{sql}: {lines:?}");
    }
}

#[tokio::test]
async fn the_log_does_not_grow_with_what_is_written() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let store = open(dir.path(), &clock);
    let log = dir.path().join("agentrunner.db-wal");
    let put = |n: u32| {
        let store = std::sync::Arc::clone(&store);
        async move {
            let (namespace, at) = (Namespace::default(), domain::Timestamp::UNIX_EPOCH);
            let value = json!(n.to_string().repeat(500));
            let put = store.put_value(&namespace, "s", "k", value, None, PutCondition::Always, at);
            put.await.expect("put");
        }
    };
    // One after another, as a lone task writes: each is a commit of its own, about three pages of 4 KiB.
    for n in 0..6_000 {
        put(n).await;
    }
    let length = std::fs::metadata(log).expect("the log is there").len();
    assert!(length < 40 * 1024 * 1024, "the log has {length} bytes");
}
