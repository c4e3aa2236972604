//! Cancellation: at once where nobody works, by request where somebody does, and all the way down.

use std::time::Duration;

use domain::{Lease, Resolution, StepBody, TaskId, TaskStatus};

use super::Run;
use super::world::{World, failure, ready, usage, wait_child, wait_signal, wait_timer};
use crate::{AttemptFailed, Cancelled, Outcome, StateError, Transition};

pub(super) const CASES: &[(&str, Run)] = &[
    ("a_queued_task_is_cancelled_at_once", |w| Box::pin(queued(w))),
    ("a_waiting_task_is_cancelled_at_once_with_what_it_used", |w| Box::pin(waiting(w))),
    ("a_running_task_is_asked_to_stop_and_then_has", |w| Box::pin(running(w))),
    ("a_task_that_was_asked_to_stop_may_still_succeed", |w| Box::pin(raced(w))),
    ("a_task_that_was_asked_to_stop_never_goes_on", |w| Box::pin(never_goes_on(w))),
    ("what_has_ended_or_is_unknown_cannot_be_cancelled", |w| Box::pin(ended(w))),
    ("cancelling_a_parent_cancels_what_is_below_it", |w| Box::pin(cascade(w))),
    ("a_parent_that_fails_stops_its_children", |w| Box::pin(orphans(w))),
    ("a_child_that_is_cancelled_wakes_its_parent", |w| Box::pin(child(w))),
];

async fn cancel(world: &World, task: TaskId) -> Cancelled {
    world.state.cancel(&world.namespace, task).await.expect("cancelled")
}

async fn queued(world: World) {
    let task = world.submitted().await;
    let cancelled = cancel(&world, task).await;
    assert_eq!((cancelled.task.status, cancelled.task.finished_at), (TaskStatus::Cancelled, Some(world.now())));
    let wanted = Transition { ended: vec![(task, TaskStatus::Cancelled)], ..Transition::default() };
    assert_eq!(cancelled.transition, wanted);
    assert_eq!(world.task(task).await, cancelled.task);
    assert!(world.try_claim(task).await.is_none());
}

async fn waiting(world: World) {
    let lease = world.running().await;
    let mut park = world.park(2, vec![wait_signal("a", "go"), wait_timer("b", world.after(5))], Vec::new());
    park.steps = vec![world.model(1, "I need you")];
    world.state.park(lease, park).await.expect("parked");
    let cancelled = cancel(&world, lease.task).await;
    assert_eq!((cancelled.task.status, cancelled.task.usage), (TaskStatus::Cancelled, usage(10)));
    world.clock.advance(Duration::from_secs(5));
    assert!(world.due().await.is_empty(), "its timer is gone");
    assert_eq!(world.kinds(lease.task).await, ["input", "model", "parked"]);
}

async fn running(world: World) {
    let lease = world.running().await;
    for _ in 0..2 {
        let cancelled = cancel(&world, lease.task).await;
        assert_eq!((cancelled.task.status, cancelled.task.cancel_requested), (TaskStatus::Running, true));
        assert_eq!(cancelled.transition, Transition { stopping: vec![lease.task], ..Transition::default() });
    }
    assert_eq!(world.state.renew(world.worker(), vec![lease]).await.expect("renewed").cancel, [lease]);
    world.state.append(lease, vec![world.model(1, "it was under way")]).await.expect("its writes still count");
    let finish = world.finish(Vec::new(), Outcome::Cancelled);
    let transition = world.state.finish(lease, finish.clone()).await.expect("finished");
    assert_eq!(transition.ended, [(lease.task, TaskStatus::Cancelled)]);
    assert_eq!(world.state.finish(lease, finish).await.expect("the same again"), Transition::default());
    let task = world.task(lease.task).await;
    assert_eq!((task.status, task.cancel_requested), (TaskStatus::Cancelled, false));
}

async fn raced(world: World) {
    let lease = world.running().await;
    cancel(&world, lease.task).await;
    world.succeed(lease, 1, "done already").await;
    assert_eq!(world.status(lease.task).await, TaskStatus::Succeeded);
}

async fn asked(world: &World) -> Lease {
    let lease = world.running().await;
    cancel(world, lease.task).await;
    lease
}

async fn never_goes_on(world: World) {
    let parking = asked(&world).await;
    let mut park = world.park(2, vec![wait_signal("a", "go")], vec![world.new_child(parking.task, "a")]);
    park.steps = vec![world.model(1, "kept")];
    let parked = world.state.park(parking, park).await.expect("answered");
    assert_eq!(parked.ended, [(parking.task, TaskStatus::Cancelled)]);
    assert_eq!(world.kinds(parking.task).await, ["input", "model"]);
    assert_eq!(world.task(parking.task).await.usage, usage(10));
    let failing = asked(&world).await;
    let failed = AttemptFailed { seq: 1, at: world.now(), failure: failure(), retry_at: world.now() };
    let failed = world.state.fail_attempt(failing, failed).await.expect("answered");
    assert_eq!(failed.ended, [(failing.task, TaskStatus::Cancelled)]);
    let releasing = asked(&world).await;
    let released = world.state.release(releasing).await.expect("answered");
    assert_eq!(released.ended, [(releasing.task, TaskStatus::Cancelled)]);
    let silent = asked(&world).await;
    let leases = world.state.leases().await.expect("leases");
    let reaped = world.state.reap(leases, 5, world.now()).await.expect("reaped");
    assert_eq!((reaped.ended.as_slice(), ready(&reaped).len()), (&[(silent.task, TaskStatus::Cancelled)][..], 0));
}

async fn ended(world: World) {
    let lease = world.running().await;
    world.succeed(lease, 1, "done").await;
    let refused = world.state.cancel(&world.namespace, lease.task).await.map(|cancelled| cancelled.task.status);
    assert!(matches!(refused, Err(StateError::Ended { status: TaskStatus::Succeeded, .. })), "{refused:?}");
    let nobody = world.state.cancel(&world.namespace, world.new_task().id).await.map(|_| ());
    assert!(matches!(nobody, Err(StateError::UnknownTask { .. })), "{nobody:?}");
}

/// A parent that waits for a queued, a running and a waiting sub-task, which waits for one of its own.
async fn tree(world: &World) -> (TaskId, [TaskId; 4]) {
    let lease = world.running().await;
    let children: Vec<_> = ["a", "b", "c"].map(|call| world.new_child(lease.task, call)).into();
    let ids: Vec<_> = children.iter().map(|child| child.id).collect();
    let waits = vec![wait_child("a", ids[0]), wait_child("b", ids[1]), wait_child("c", ids[2])];
    world.state.park(lease, world.park(1, waits, children)).await.expect("parked");
    world.lease(ids[1]).await;
    let third = world.lease(ids[2]).await;
    let grandchild = world.new_child(ids[2], "d");
    let below = grandchild.id;
    let park = world.park(1, vec![wait_child("d", below)], vec![grandchild]);
    world.state.park(third, park).await.expect("parked");
    (lease.task, [ids[0], ids[1], ids[2], below])
}

async fn cascade(world: World) {
    let (parent, [queued, running, waiting, below]) = tree(&world).await;
    let cancelled = cancel(&world, parent).await;
    assert_eq!(cancelled.task.status, TaskStatus::Cancelled);
    let mut ended: Vec<_> = cancelled.transition.ended.iter().map(|(task, _)| *task).collect();
    ended.sort();
    let mut wanted = vec![parent, queued, waiting, below];
    wanted.sort();
    assert_eq!(ended, wanted);
    assert_eq!(cancelled.transition.stopping, [running]);
    assert_eq!(cancelled.transition.ready, []);
    assert!(world.task(running).await.cancel_requested);
    assert_eq!(world.kinds(parent).await, ["input", "parked"], "nothing is told to a parent that has ended");
}

async fn orphans(world: World) {
    let lease = world.running().await;
    let child = world.submit(world.new_child(lease.task, "a")).await.id;
    let transition = world.fail(lease).await;
    assert_eq!(transition.ended, [(lease.task, TaskStatus::Failed), (child, TaskStatus::Cancelled)]);
    assert_eq!(world.status(child).await, TaskStatus::Cancelled);
    let refused = world.state.retry(&world.namespace, child, true).await;
    assert!(matches!(refused, Err(StateError::Conflict { .. })), "its parent has ended: {refused:?}");
}

async fn child(world: World) {
    let (parent, child) = world.family().await;
    let cancelled = cancel(&world, child).await;
    assert_eq!(ready(&cancelled.transition), [parent]);
    let journal = world.journal(parent).await;
    let Some(StepBody::Resolved { by: Resolution::Child(outcome), .. }) = journal.last().map(|step| &step.body) else {
        panic!("the parent was not told: {journal:?}");
    };
    assert_eq!((outcome.task, outcome.status), (child, TaskStatus::Cancelled));
}
