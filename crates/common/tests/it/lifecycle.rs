//! How a process stops.

use std::time::Duration;

use common::lifecycle::Lifecycle;

const LONG: Duration = Duration::from_mins(1);

#[tokio::test(start_paused = true)]
async fn tasks_that_end_at_the_soft_stop_end_well() {
    let lifecycle = Lifecycle::new();
    let soft = lifecycle.soft().clone();
    lifecycle.spawn("loop", async move { soft.cancelled().await });
    lifecycle.spawn("short", async {});
    lifecycle.shutdown();
    let exit = lifecycle.wait(LONG).await;
    assert_eq!((exit.code(), lifecycle.running().len()), (0, 0), "{exit:?}");
}

#[tokio::test(start_paused = true)]
async fn the_hard_stop_comes_after_the_time_out_and_never_before_the_soft_one() {
    let lifecycle = Lifecycle::new();
    let (soft, hard) = (lifecycle.soft().clone(), lifecycle.hard().clone());
    lifecycle.spawn("stubborn", async move {
        hard.cancelled().await;
        assert!(soft.is_cancelled());
    });
    lifecycle.shutdown();
    let exit = lifecycle.wait(LONG).await;
    assert_eq!(exit.code(), 0, "it stopped at the hard stop: {exit:?}");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_never_ends_is_dropped_and_named() {
    let lifecycle = Lifecycle::new();
    lifecycle.spawn("deaf", std::future::pending::<()>());
    lifecycle.shutdown();
    let exit = lifecycle.wait(LONG).await;
    assert_eq!(exit.unfinished, ["deaf"]);
    assert_ne!(exit.code(), 0);
}

fn break_glass() {
    panic!("broken glass");
}

#[tokio::test(start_paused = true)]
async fn a_panic_begins_a_shutdown_with_a_failure() {
    let lifecycle = Lifecycle::new();
    lifecycle.spawn("fragile", async { break_glass() });
    let exit = lifecycle.wait(LONG).await;
    assert_eq!(exit.failures, ["fragile: panicked: broken glass"]);
    assert_ne!(exit.code(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_error_begins_a_shutdown_with_a_failure() {
    let lifecycle = Lifecycle::new();
    let soft = lifecycle.soft().clone();
    lifecycle.spawn("other", async move { soft.cancelled().await });
    lifecycle.spawn("poller", async { Err::<(), _>("the disk is full") });
    let exit = lifecycle.wait(LONG).await;
    assert_eq!(exit.failures, ["poller: the disk is full"]);
}

#[tokio::test(start_paused = true)]
async fn tasks_may_begin_others_during_the_shutdown() {
    let lifecycle = Lifecycle::new();
    let (inner, soft) = (lifecycle.clone(), lifecycle.soft().clone());
    lifecycle.spawn("parent", async move {
        soft.cancelled().await;
        inner.spawn("child", tokio::time::sleep(Duration::from_secs(5)));
    });
    lifecycle.shutdown();
    assert_eq!(lifecycle.wait(LONG).await.code(), 0);
    assert!(lifecycle.running().is_empty());
}
