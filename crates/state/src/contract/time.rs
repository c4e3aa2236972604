//! What time does: delays, announcements, lost leases, times to live and deadlines.

use std::time::Duration;

use domain::{FailureKind, NewTask, StepBody, TaskId, TaskStatus};

use super::Run;
use super::world::{World, assert_lost, ready, wait_child, wait_signal, wait_timer};
use crate::LeaseBeat;

pub(super) const CASES: &[(&str, Run)] = &[
    ("a_delayed_task_is_handed_out_at_its_time", |w| Box::pin(delayed(w))),
    ("a_queued_task_is_handed_out_again_when_nobody_claims_it", |w| Box::pin(reannounced(w))),
    ("due_hands_out_at_most_its_limit_and_says_when_to_come_back", |w| Box::pin(limited(w))),
    ("a_silent_worker_loses_its_task_to_the_next", |w| Box::pin(reaped(w))),
    ("a_lease_that_was_renewed_is_not_reaped", |w| Box::pin(renewed(w))),
    ("a_task_that_loses_too_many_workers_fails", |w| Box::pin(worker_lost(w))),
    ("a_step_in_between_forgives_lost_workers", |w| Box::pin(forgiven(w))),
    ("a_task_that_no_worker_starts_in_time_expires", |w| Box::pin(expired(w))),
    ("a_task_that_is_late_fails_unless_a_worker_has_it", |w| Box::pin(late(w))),
    ("a_parent_that_is_late_stops_its_children", |w| Box::pin(late_parent(w))),
];

async fn delayed(world: World) {
    let at = world.after(30);
    let task = world.submit(NewTask { run_at: Some(at), ..world.new_task() }).await.id;
    let due = world.state.due(world.now(), Duration::from_mins(1), 10).await.expect("due");
    assert_eq!((ready(&due.transition), due.next), (Vec::new(), Some(at)));
    world.clock.advance(Duration::from_secs(30));
    let due = world.state.due(world.now(), Duration::from_mins(1), 10).await.expect("due");
    assert_eq!((ready(&due.transition), due.next), (vec![task], None));
    assert!(world.due().await.is_empty());
    assert!(world.try_claim(task).await.is_some());
}

async fn reannounced(world: World) {
    let task = world.submitted().await;
    let claimed = world.submitted().await;
    world.lease(claimed).await;
    assert!(world.due().await.is_empty(), "whoever submitted it announces it");
    world.clock.advance(Duration::from_mins(1));
    let due = world.state.due(world.now(), Duration::from_mins(1), 10).await.expect("due");
    assert_eq!(ready(&due.transition), [task]);
    let hint = due.transition.ready[0];
    assert_eq!((hint.priority, hint.mode), (5, domain::ExecutionMode::Autonomous));
    assert!(world.due().await.is_empty());
    world.clock.advance(Duration::from_mins(1));
    assert_eq!(world.due().await, [task]);
}

async fn limited(world: World) {
    let mut tasks = Vec::new();
    for seconds in 1..=4 {
        let at = Some(world.after(seconds));
        tasks.push(world.submit(NewTask { run_at: at, ..world.new_task() }).await.id);
    }
    let (third, last) = (world.after(3), world.after(4));
    world.clock.advance(Duration::from_secs(3));
    let due = world.state.due(world.now(), Duration::from_mins(1), 2).await.expect("due");
    assert_eq!((ready(&due.transition), due.next), (tasks[..2].to_vec(), Some(third)));
    let due = world.state.due(world.now(), Duration::from_mins(1), 2).await.expect("due");
    assert_eq!((ready(&due.transition), due.next), (vec![tasks[2]], Some(last)));
}

async fn beats(world: &World) -> Vec<LeaseBeat> {
    world.state.leases().await.expect("leases")
}

async fn reaped(world: World) {
    let lease = world.running().await;
    world.state.append(lease, vec![world.model(1, "kept")]).await.expect("appended");
    let held = beats(&world).await;
    let transition = world.state.reap(held.clone(), 5, world.now()).await.expect("reaped");
    assert_eq!(ready(&transition), [lease.task]);
    assert_eq!(ready(&world.state.reap(held, 5, world.now()).await.expect("nothing to reap")), [], "once");
    let task = world.task(lease.task).await;
    assert_eq!((task.status, task.attempt, task.worker), (TaskStatus::Queued, 0, None));
    let journal = world.journal(lease.task).await;
    assert_eq!(journal[2].body, StepBody::LeaseLost { worker: world.worker() });
    assert_lost(world.state.append(lease, vec![world.model(3, "zombie")]).await, lease);
    let next = world.claimed(lease.task).await;
    assert_eq!((next.task.epoch, next.steps.len()), (2, 3));
    assert_lost(world.state.append(lease, vec![world.model(3, "zombie")]).await, lease);
    world.succeed(next.lease(), 3, "done").await;
}

async fn renewed(world: World) {
    let lease = world.running().await;
    let held = beats(&world).await;
    world.state.renew(world.worker(), vec![lease]).await.expect("renewed");
    let transition = world.state.reap(held, 5, world.now()).await.expect("answered");
    assert_eq!(ready(&transition), []);
    world.succeed(lease, 1, "done").await;
    assert_eq!(world.kinds(lease.task).await, ["input", "model"]);
}

async fn lose(world: &World, task: TaskId) -> crate::Transition {
    world.lease(task).await;
    let held = beats(world).await;
    world.state.reap(held, 3, world.now()).await.expect("reaped")
}

async fn worker_lost(world: World) {
    let task = world.submitted().await;
    for _ in 0..2 {
        assert_eq!(ready(&lose(&world, task).await), [task]);
    }
    let transition = lose(&world, task).await;
    assert_eq!((ready(&transition), transition.ended), (Vec::new(), vec![(task, TaskStatus::Failed)]));
    let failure = world.task(task).await.failure.expect("failed");
    assert_eq!(failure.kind, FailureKind::WorkerLost);
    assert_eq!(world.kinds(task).await, ["input", "lease_lost", "lease_lost", "lease_lost"]);
    world.state.retry(&world.namespace, task, true).await.expect("retried");
    assert_eq!(ready(&lose(&world, task).await), [task], "a retry begins with none lost");
}

async fn forgiven(world: World) {
    let task = world.submitted().await;
    for _ in 0..2 {
        lose(&world, task).await;
    }
    let lease = world.lease(task).await;
    world.state.append(lease, vec![world.model(3, "progress")]).await.expect("appended");
    let held = beats(&world).await;
    world.state.reap(held, 3, world.now()).await.expect("reaped");
    assert_eq!(ready(&lose(&world, task).await), [task]);
    assert_eq!(lose(&world, task).await.ended, [(task, TaskStatus::Failed)]);
}

async fn expired(world: World) {
    let ttl = || NewTask { expires_at: Some(world.after(10)), ..world.new_task() };
    let never = world.submit(ttl()).await.id;
    let started = world.submit(ttl()).await.id;
    let released = world.lease(started).await;
    world.state.release(released).await.expect("released");
    assert_eq!(world.state.expire(world.now(), 10).await.expect("expired").expired, 0);
    world.clock.advance(Duration::from_secs(10));
    let outcome = world.state.expire(world.now(), 10).await.expect("expired");
    assert_eq!((outcome.expired, outcome.transition.ended), (1, vec![(never, TaskStatus::Failed)]));
    assert_eq!(world.task(never).await.failure.map(|failure| failure.kind), Some(FailureKind::Expired));
    assert_eq!(world.status(started).await, TaskStatus::Queued, "it was started in time");
    assert_eq!(world.state.expire(world.now(), 10).await.expect("expired").expired, 0);
}

async fn late(world: World) {
    let limited = || NewTask { deadline: Some(world.after(10)), ..world.new_task() };
    let queued = world.submit(limited()).await.id;
    let running = world.submit(limited()).await.id;
    let waiting = world.submit(limited()).await.id;
    let lease = world.lease(running).await;
    let parked = world.lease(waiting).await;
    let park = world.park(1, vec![wait_signal("a", "go"), wait_timer("b", world.after(99))], Vec::new());
    world.state.park(parked, park).await.expect("parked");
    world.clock.advance(Duration::from_secs(10));
    let one = world.state.expire(world.now(), 1).await.expect("expired");
    let rest = world.state.expire(world.now(), 10).await.expect("expired");
    assert_eq!((one.expired, rest.expired), (1, 1));
    for task in [queued, waiting] {
        let failure = world.task(task).await.failure.expect("failed");
        assert_eq!(failure.kind, FailureKind::DeadlineExceeded);
    }
    world.succeed(lease, 1, "its worker decides").await;
    world.clock.advance(Duration::from_secs(100));
    assert!(world.due().await.is_empty());
}

async fn late_parent(world: World) {
    let parent = world.submit(NewTask { deadline: Some(world.after(10)), ..world.new_task() }).await.id;
    let lease = world.lease(parent).await;
    let child = NewTask { deadline: Some(world.after(10)), ..world.new_child(parent, "a") };
    let id = child.id;
    world.state.park(lease, world.park(1, vec![wait_child("a", id)], vec![child])).await.expect("parked");
    world.clock.advance(Duration::from_secs(10));
    world.state.expire(world.now(), 10).await.expect("expired");
    assert_eq!(world.status(parent).await, TaskStatus::Failed);
    assert!(world.status(id).await.is_terminal());
    assert_eq!(world.kinds(parent).await, ["input", "parked"]);
}
