//! What heals by itself.

use bus::WorkQueue;
use domain::{ExecutionMode, FailureKind, HumanDuration, StepBody, TaskStatus, Wait, WaitFor};
use wire::SubmitTask;

use crate::platform::{PATIENCE, Platform, request, until};
use crate::worker::Run;

async fn next(platform: &Platform) -> domain::TaskId {
    let delivery = tokio::time::timeout(PATIENCE, platform.bus.next(ExecutionMode::Autonomous)).await.unwrap().unwrap();
    let task = delivery.task.task;
    delivery.done();
    task
}

#[tokio::test]
async fn what_was_queued_is_announced_again_after_a_restart() {
    let platform = Platform::start().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(platform.submit().await);
    }
    let platform = platform.restart().await;
    let mut announced = Vec::new();
    for _ in 0..3 {
        announced.push(next(&platform).await);
    }
    announced.sort();
    assert_eq!(announced, ids);
    platform.stop().await;
}

#[tokio::test]
async fn a_delayed_task_is_announced_when_its_time_has_come() {
    let platform = Platform::start().await;
    let delay = Some(HumanDuration(std::time::Duration::from_millis(150)));
    let id = platform.client.submit(&SubmitTask { delay, ..request() }).await.unwrap().task.id;
    assert_eq!(next(&platform).await, id);
    let task = platform.task(id).await;
    assert!(platform.clock.now() >= task.run_at.unwrap());
}

#[tokio::test]
async fn a_timer_wakes_its_task() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    assert_eq!(next(&platform).await, id);
    let at = platform.clock.now() + std::time::Duration::from_millis(100);
    let wait = Wait { call_id: "c".to_owned(), on: WaitFor::Timer { at }, expires_at: None, default: None };
    Run::of(&platform, id).await.park(vec![wait]).await;
    assert_eq!(next(&platform).await, id);
    assert!(platform.clock.now() >= at);
}

#[tokio::test]
async fn a_silent_workers_task_goes_to_another() {
    let platform = Platform::with(|config| config.agent_lease = "100ms".parse().unwrap()).await;
    let id = platform.submit().await;
    assert_eq!(next(&platform).await, id);
    let run = Run::of(&platform, id).await;
    assert_eq!(next(&platform).await, id, "it is announced after the lease has expired");
    let again = Run::of(&platform, id).await;
    assert!(again.lease.epoch > run.lease.epoch);
    let journal = platform.client.whole_journal(id).await.unwrap();
    assert!(journal.iter().any(|step| matches!(step.0.body, StepBody::LeaseLost { .. })));
}

#[tokio::test]
async fn times_to_live_and_deadlines_end_tasks_with_a_reason() {
    let platform = Platform::start().await;
    let ttl = Some(HumanDuration(std::time::Duration::from_millis(50)));
    let expiring = platform.client.submit(&SubmitTask { ttl, ..request() }).await.unwrap().task.id;
    let deadline = Some(platform.clock.now() + std::time::Duration::from_millis(200));
    let late = platform.client.submit(&SubmitTask { deadline, ..request() }).await.unwrap().task.id;
    for (id, kind) in [(expiring, FailureKind::Expired), (late, FailureKind::DeadlineExceeded)] {
        let task = platform.client.wait(id, PATIENCE).await.unwrap();
        assert_eq!((task.status, task.failure.unwrap().kind), (TaskStatus::Failed, kind));
    }
}

#[tokio::test]
async fn a_lost_announcement_is_repeated() {
    let platform = Platform::with(|config| config.orchestrator_reannounce = "50ms".parse().unwrap()).await;
    let id = platform.submit().await;
    assert_eq!(next(&platform).await, id);
    // Whoever took it never claimed it.
    assert_eq!(next(&platform).await, id);
    until("the queue is not flooded", || async { platform.bus.depth(ExecutionMode::Autonomous) <= 1 }).await;
}
