//! The server dies, or has no connection left.

use std::sync::Arc;
use std::time::Duration;

use domain::{Lease, Namespace, TaskStatus};
use sqlx::{Connection as _, Executor as _, PgConnection};
use state::{State, StateError};
use state_postgres::PostgresState;
use testkit::servers::own;
use tokio::task::JoinSet;

use crate::support::{clock, database, model, new_task, options, running, submit, success, try_claim, until, worker};

/// One task's life, each call repeated until it is confirmed or the lease is lost; whether its end was confirmed.
async fn live(store: &PostgresState) -> Option<Lease> {
    let task = new_task();
    until(|| store.submit(task.clone())).await;
    let mut claimed = None;
    for _ in 0..3 {
        // A claim whose answer was lost may have been granted: then nobody gets it before it is reaped.
        claimed = until(|| try_claim(store, task.id, worker())).await;
        if claimed.is_some() {
            break;
        }
    }
    let lease = claimed?.lease();
    for seq in 1..=3 {
        let step = model(seq, "thinking");
        until(|| store.append(lease, vec![step.clone()])).await;
    }
    let finish = success(Vec::new());
    until(|| store.finish(lease, finish.clone())).await;
    Some(lease)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_confirmed_survives_a_server_that_is_killed() {
    let mut server = own::Postgres::start().await;
    let store = PostgresState::open(options(&server.fresh_database().await), clock());
    submit(&store).await;
    let mut lives = JoinSet::new();
    for _ in 0..8 {
        let store = Arc::clone(&store);
        lives.spawn(async move {
            let mut ended = Vec::new();
            for _ in 0..20 {
                ended.extend(live(&store).await);
            }
            ended
        });
    }
    for _ in 0..2 {
        // Somewhere in the middle of it.
        tokio::time::sleep(Duration::from_millis(150)).await;
        server.kill();
        server.start_again().await;
    }
    let ended: Vec<_> = lives.join_all().await.into_iter().flatten().collect();
    assert!(ended.len() > 100, "{} of 160 lives went through", ended.len());
    let namespace = Namespace::default();
    for lease in ended {
        let task = until(|| store.task(&namespace, lease.task)).await.expect("kept");
        assert_eq!((task.status, task.epoch), (TaskStatus::Succeeded, lease.epoch));
        let steps = until(|| store.journal(&namespace, lease.task, 0, 10)).await;
        assert_eq!(steps.iter().map(|step| step.seq).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn renewals_and_writes_go_on_while_every_reading_connection_is_busy() {
    let url = database().await;
    let mut options = options(&url);
    (options.pool_size, options.max_overflow) = (5, 0);
    options.lock_timeout = Duration::from_secs(15);
    options.statement_timeout = Duration::from_secs(15);
    let store = PostgresState::open(options, clock());
    let holder = worker();
    let lease = running(&store, holder).await;
    let mut foreign = PgConnection::connect(&url).await.expect("connected");
    foreign.execute("BEGIN; LOCK TABLE threads IN ACCESS EXCLUSIVE MODE").await.expect("locked");
    let namespace = Namespace::default();
    let blocked = {
        let (store, namespace) = (Arc::clone(&store), namespace.clone());
        tokio::spawn(async move { store.threads(&namespace, None, 1).await })
    };
    // The only connection that reads is taken once a further read finds none.
    let refused = loop {
        let start = tokio::time::Instant::now();
        if let Err(error) = store.task(&namespace, lease.task).await {
            assert!(start.elapsed() < Duration::from_secs(4), "it waits two seconds");
            break error;
        }
    };
    assert!(matches!(refused, StateError::Unavailable(_)), "{refused:?}");
    let start = tokio::time::Instant::now();
    assert!(store.renew(holder, vec![lease]).await.expect("renewed").lost.is_empty());
    store.append(lease, vec![model(1, "one")]).await.expect("appended");
    assert!(start.elapsed() < Duration::from_secs(2));
    foreign.execute("ROLLBACK").await.expect("unlocked");
    blocked.await.expect("joined").expect("read");
}
