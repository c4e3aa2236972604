//! The server dies, or has no connection left.

use std::sync::Arc;
use std::time::Duration;

use domain::Namespace;
use sqlx::{Connection as _, Executor as _, PgConnection};
use state::{State, StateError};
use state_postgres::PostgresState;
use testkit::servers::own;

use crate::support::{clock, database, lives_go_on, model, options, running, submit, worker};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_confirmed_survives_a_server_that_is_killed() {
    let mut server = own::Postgres::start().await;
    let store = PostgresState::open(options(&server.fresh_database().await), clock());
    submit(&store).await;
    lives_go_on(&store, async {
        for _ in 0..2 {
            // Somewhere in the middle of it.
            tokio::time::sleep(Duration::from_millis(150)).await;
            server.kill();
            server.start_again().await;
        }
    })
    .await;
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
