//! PgBouncer in transaction mode between the stores and their server: a connection is a client's for one transaction.

use std::sync::Arc;
use std::time::Duration;

use state::State;
use state_postgres::{PostgresOptions, PostgresState, migrate};
use testkit::servers::{own, query};
use tokio::task::JoinSet;

use crate::support::{DEADLINE, clock, database, lives_go_on, model, options, running, submit, success, until, worker};

/// As the operators' guide says for the version that is installed.
async fn through(pooler: &own::PgBouncer, database: &str) -> PostgresOptions {
    let mut options = options(&pooler.way_to(database));
    options.prepared_statements = pooler.follows_statements().await;
    // The machine may be busy with other tests.
    options.acquire_timeout = DEADLINE;
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn more_stores_than_connections_share_them() {
    let pooler = testkit::servers::pgbouncer().await;
    let database = database().await;
    let options = through(&pooler, &database).await;
    let stores: Vec<_> = (0..4).map(|_| PostgresState::open(options.clone(), clock())).collect();
    let mut lives = JoinSet::new();
    for index in 0..48 {
        let (one, other) = (Arc::clone(&stores[index % 4]), Arc::clone(&stores[(index + 1) % 4]));
        lives.spawn(async move {
            let holder = worker();
            let lease = running(&one, holder).await;
            other.append(lease, vec![model(1, "one")]).await.expect("appended");
            assert!(one.renew(holder, vec![lease]).await.expect("renewed").lost.is_empty());
            other.append(lease, vec![model(2, "two")]).await.expect("appended");
            one.finish(lease, success(vec![model(3, "three")])).await.expect("finished");
            let steps = other.journal(&domain::Namespace::default(), lease.task, 0, 10).await.expect("read");
            assert_eq!(steps.iter().map(|step| step.seq).collect::<Vec<_>>(), [0, 1, 2, 3]);
        });
    }
    lives.join_all().await;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let connections: u32 = query(&database, sql).expect("counted").parse().expect("a number");
    assert!((1..=3).contains(&connections), "four stores want four connections each and get {connections} together");
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_together_migrate_once_through_it() {
    let pooler = testkit::servers::pgbouncer().await;
    let options = through(&pooler, &database().await).await;
    let stores: Vec<_> = (0..6).map(|_| PostgresState::open(options.clone(), clock())).collect();
    for store in &stores {
        until(|| store.ping()).await;
        submit(store).await;
    }
    assert!(migrate::status(&options).await.expect("reported").is_current());
    assert_eq!(migrate::down(&options, 1).await.expect("taken back").changed.len(), 1);
    assert_eq!(migrate::up(&options).await.expect("applied").changed.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_confirmed_survives_a_pooler_that_cuts_connections_and_dies() {
    let mut pooler = testkit::servers::pgbouncer().await;
    let database = database().await;
    let name = database.rsplit('/').next().expect("a name");
    let store = PostgresState::open(through(&pooler, &database).await, clock());
    submit(&store).await;
    lives_go_on(&store, async {
        // Somewhere in the middle of it, each time.
        let soon = || tokio::time::sleep(Duration::from_millis(100));
        soon().await;
        pooler.order("RECONNECT").await;
        soon().await;
        // Cuts clients and servers, and holds those who come again.
        pooler.order(&format!("KILL {name}")).await;
        pooler.order(&format!("RESUME {name}")).await;
        soon().await;
        pooler.kill();
        pooler.start_again().await;
        soon().await;
        pooler.stop();
        pooler.start_again().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_opened_before_the_pooler_works_as_soon_as_it_is_up() {
    let mut pooler = testkit::servers::pgbouncer().await;
    let mut options = through(&pooler, &database().await).await;
    options.acquire_timeout = Duration::from_secs(2);
    pooler.stop();
    let store = PostgresState::open(options, clock());
    let down = store.ping().await.expect_err("down").to_string();
    assert!(down.contains(&format!("127.0.0.1:{}", pooler.port())), "{down}");
    pooler.start_again().await;
    until(|| store.ping()).await;
    submit(&store).await;
}
