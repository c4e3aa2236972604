//! What PostgreSQL does to a platform: it dies, has no connections left, is locked, and its answer to a commit is lost.

use std::time::Duration;

use testkit::cutting_proxy::{Cut, CuttingProxy, Says};
use testkit::servers::query;

use crate::run::Run;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f19_postgres_is_killed_and_comes_back_twice() {
    let mut run = Run::start().await;
    for _ in 0..2 {
        run.until_busy().await;
        run.servers.postgres.kill();
        run.for_a_while(Duration::from_millis(500)).await;
        run.servers.postgres.start_again().await;
        run.for_a_while(Duration::from_millis(500)).await;
    }
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f19_single_connections_of_the_record_are_ended() {
    let mut run = Run::start_shared(1).await;
    run.until_busy().await;
    let url = run.record_url();
    for _ in 0..10 {
        let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
                     AND pid <> pg_backend_pid() ORDER BY random() LIMIT 2";
        query(&url, ended).expect("connections can be ended");
        run.for_a_while(Duration::from_millis(100)).await;
    }
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f20_others_use_up_all_connections() {
    let mut run = Run::start().await;
    run.until_busy().await;
    let url = run.record_url();
    // One is ended now and then, so that what reconnects meets a full server.
    let sleepers: Vec<_> = (0..300)
        .map(|_| {
            let url = url.clone();
            tokio::task::spawn_blocking(move || query(&url, "SELECT pg_sleep(8)"))
        })
        .collect();
    run.for_a_while(Duration::from_secs(3)).await;
    for sleeper in sleepers {
        // Those that found no place have failed, which is the point.
        let _ = sleeper.await;
    }
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f21_the_table_of_tasks_is_locked_for_ten_seconds() {
    let mut run = Run::start_shared(1).await;
    run.until_busy().await;
    let url = run.record_url();
    let locked = tokio::task::spawn_blocking(move || {
        query(&url, "LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(10)")
    });
    run.for_a_while(Duration::from_secs(9)).await;
    locked.await.expect("it ends").expect("the lock was held");
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f22_commits_are_cut_off_before_the_server_has_them() {
    cut_commits(Cut::Before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f22_commits_are_cut_off_when_the_server_has_them() {
    cut_commits(Cut::After).await;
}

async fn cut_commits(cut: Cut) {
    let postgres = testkit::servers::postgres().await.port();
    let proxy = CuttingProxy::start(postgres).await.expect("the proxy starts");
    let mut run = Run::prepare_shared(|backends| backends.postgres = proxy.port()).await;
    run.platform = run.house.start(1).await;
    for _ in 0..6 {
        proxy.cut_at(Says::Client, b"COMMIT", cut, 1);
        run.for_a_while(Duration::from_millis(400)).await;
    }
    run.finish().await;
    assert!(proxy.cuts() > 0, "no commit passed");
}
