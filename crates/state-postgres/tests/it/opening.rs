//! What a store makes of the server that it finds, or does not find.

use std::time::Duration;

use state::{State, StateError};
use state_postgres::{Durability, PostgresState};
use testkit::servers::own;

use crate::support::{admin, clock, database, open, options, submit, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_may_lose_what_it_confirmed_is_refused_unless_that_is_accepted() {
    let url = database().await;
    let name = url.rsplit('/').next().expect("a name");
    admin(&url, &format!("ALTER DATABASE {name} SET synchronous_commit = off")).await;
    let store = PostgresState::open(options(&url), clock());
    let refused = store.submit(crate::support::new_task()).await.expect_err("refused").to_string();
    assert!(refused.contains("synchronous_commit is off"), "{refused}");
    let down = store.ping().await.expect_err("down");
    assert!(matches!(&down, StateError::Unavailable(why) if why.contains("synchronous_commit")), "{down:?}");
    let mut options = options(&url);
    options.durability = Durability::Relaxed;
    submit(&PostgresState::open(options, clock())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_opened_before_its_server_works_as_soon_as_it_is_up() {
    let mut server = own::Postgres::start().await;
    let url = server.fresh_database().await;
    server.stop();
    let store = PostgresState::open(options(&url), clock());
    let down = store.ping().await.expect_err("down").to_string();
    assert!(down.contains(&format!("127.0.0.1:{}", server.port())), "{down}");
    assert!(!down.contains("testkit:"), "no password is shown: {down}");
    assert!(store.submit(crate::support::new_task()).await.expect_err("down").is_transient());
    server.start_again().await;
    until(|| store.ping()).await;
    submit(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_refuses_work_and_ends_what_it_began() {
    let store = open(&database().await);
    let task = submit(&store).await;
    let late = tokio::join!(store.submit(crate::support::new_task()), store.close()).0;
    assert!(matches!(late, Ok(_) | Err(StateError::Closed)), "{late:?}");
    let refused = store.task(&domain::Namespace::default(), task).await;
    assert!(matches!(refused, Err(StateError::Closed)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_need_not_be_prepared() {
    let mut options = options(&database().await);
    options.prepared_statements = false;
    options.acquire_timeout = Duration::from_secs(5);
    let store = PostgresState::open(options, clock());
    let lease = crate::support::running(&store, crate::support::worker()).await;
    store.append(lease, vec![crate::support::model(1, "one")]).await.expect("appended");
    store.release(lease).await.expect("released");
}
