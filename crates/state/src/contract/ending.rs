//! How tasks end: once, with all that belongs to it; and how failures come back.

use std::time::Duration;

use domain::{FailureKind, StepBody, TaskStatus};
use serde_json::json;

use super::Run;
use super::world::{World, assert_lost, failure, ready, usage};
use crate::{AttemptFailed, Outcome, StateError, Transition};

pub(super) const CASES: &[(&str, Run)] = &[
    ("a_finished_task_has_its_answer_usage_and_time", |w| Box::pin(succeeded(w))),
    ("the_same_finish_again_changes_nothing", |w| Box::pin(finished_twice(w))),
    ("an_answer_that_was_journaled_before_is_the_answer", |w| Box::pin(answered_before(w))),
    ("a_structured_answer_is_a_value", |w| Box::pin(structured(w))),
    ("a_failed_task_keeps_its_failure", |w| Box::pin(failed(w))),
    ("a_finish_with_a_conflicting_step_changes_nothing", |w| Box::pin(conflicting(w))),
    ("a_failed_attempt_comes_back_at_its_time", |w| Box::pin(attempt(w))),
    ("a_failed_attempt_that_may_start_at_once_is_ready", |w| Box::pin(attempt_at_once(w))),
    ("a_failed_task_can_be_retried_with_its_journal", |w| Box::pin(retried(w))),
    ("a_failed_task_can_be_retried_anew", |w| Box::pin(retried_anew(w))),
    ("only_what_failed_or_was_cancelled_can_be_retried", |w| Box::pin(not_retried(w))),
];

async fn succeeded(world: World) {
    let lease = world.running().await;
    world.state.append(lease, vec![world.model(1, "thinking")]).await.expect("appended");
    world.clock.advance(Duration::from_secs(3));
    assert_eq!(world.answer(lease.task).await, None, "not while it runs");
    let transition = world.succeed(lease, 2, "the answer").await;
    assert_eq!(transition, Transition { ended: vec![(lease.task, TaskStatus::Succeeded)], ..Transition::default() });
    let task = world.task(lease.task).await;
    assert_eq!((task.status, task.finished_at, task.usage), (TaskStatus::Succeeded, Some(world.now()), usage(20)));
    assert_eq!((task.worker, task.failure, task.cancel_requested), (None, None, false));
    assert_eq!(world.kinds(lease.task).await, ["input", "model", "model"]);
    let answer = world.answer(lease.task).await;
    assert_eq!(answer, Some(json!("the answer")));
    assert!(world.state.leases().await.expect("leases").is_empty());
}

async fn finished_twice(world: World) {
    let lease = world.running().await;
    let finish = world.finish(vec![world.model(1, "done")], Outcome::Succeeded);
    world.state.finish(lease, finish.clone()).await.expect("finished");
    let before = (world.task(lease.task).await, world.journal(lease.task).await);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.state.finish(lease, finish).await.expect("the same again"), Transition::default());
    let other = world.finish(Vec::new(), Outcome::Failed(failure()));
    assert_lost(world.state.finish(lease, other).await, lease);
    assert_eq!((world.task(lease.task).await, world.journal(lease.task).await), before);
}

async fn answered_before(world: World) {
    let lease = world.running().await;
    world.state.append(lease, vec![world.model(1, "the answer")]).await.expect("appended");
    world.state.finish(lease, world.finish(Vec::new(), Outcome::Succeeded)).await.expect("finished");
    let answer = world.answer(lease.task).await;
    assert_eq!(answer, Some(json!("the answer")));
}

async fn structured(world: World) {
    let lease = world.running().await;
    let mut step = world.model(1, r#"{"name": "Ann", "age": 7}"#);
    if let StepBody::Model(model) = &mut step.body {
        model.structured = true;
    }
    world.state.finish(lease, world.finish(vec![step], Outcome::Succeeded)).await.expect("finished");
    let answer = world.answer(lease.task).await;
    assert_eq!(answer, Some(json!({"name": "Ann", "age": 7})));
}

async fn failed(world: World) {
    let lease = world.running().await;
    let transition = world.fail(lease).await;
    assert_eq!(transition.ended, [(lease.task, TaskStatus::Failed)]);
    let task = world.task(lease.task).await;
    assert_eq!((task.status, task.failure, task.usage), (TaskStatus::Failed, Some(failure()), usage(20)));
    assert_eq!(world.answer(lease.task).await, None);
}

async fn conflicting(world: World) {
    let lease = world.running().await;
    world.state.append(lease, vec![world.model(1, "a")]).await.expect("appended");
    let finish = world.finish(vec![world.model(1, "b"), world.model(2, "c")], Outcome::Succeeded);
    let refused = world.state.finish(lease, finish).await;
    assert!(matches!(refused, Err(StateError::StepConflict { seq: 1, .. })), "{refused:?}");
    assert_eq!(world.status(lease.task).await, TaskStatus::Running);
    world.succeed(lease, 2, "c").await;
    assert_eq!(world.kinds(lease.task).await, ["input", "model", "model"]);
}

async fn attempt(world: World) {
    let lease = world.running().await;
    let failed = AttemptFailed { seq: 1, at: world.now(), failure: failure(), retry_at: world.after(30) };
    let refused = world.state.fail_attempt(lease, AttemptFailed { seq: 2, ..failed.clone() }).await;
    assert!(matches!(refused, Err(StateError::StepConflict { seq: 2, .. })), "{refused:?}");
    assert_eq!(world.state.fail_attempt(lease, failed).await.expect("failed"), Transition::default());
    let task = world.task(lease.task).await;
    assert_eq!((task.status, task.attempt, task.run_at), (TaskStatus::Queued, 1, Some(world.after(30))));
    let journal = world.journal(lease.task).await;
    let wanted = StepBody::AttemptFailed { attempt: 1, failure: failure(), retry_at: world.after(30) };
    assert_eq!(journal[1].body, wanted);
    assert!(world.try_claim(lease.task).await.is_none(), "too early");
    let due = world.state.due(world.now(), Duration::from_mins(1), 10).await.expect("due");
    assert_eq!((ready(&due.transition), due.next), (Vec::new(), Some(world.after(30))));
    world.clock.advance(Duration::from_secs(30));
    assert_eq!(world.due().await, [lease.task]);
    let again = world.claimed(lease.task).await;
    assert_eq!((again.task.epoch, again.task.attempt), (2, 1));
}

async fn attempt_at_once(world: World) {
    let lease = world.running().await;
    let failed = AttemptFailed { seq: 1, at: world.now(), failure: failure(), retry_at: world.now() };
    let transition = world.state.fail_attempt(lease, failed).await.expect("failed");
    assert_eq!(ready(&transition), [lease.task]);
    assert!(world.try_claim(lease.task).await.is_some());
}

async fn retried(world: World) {
    let lease = world.running().await;
    let failed = AttemptFailed { seq: 1, at: world.now(), failure: failure(), retry_at: world.now() };
    world.state.fail_attempt(lease, failed).await.expect("failed");
    let lease = world.lease(lease.task).await;
    world.fail(lease).await;
    let transition = world.state.retry(&world.namespace, lease.task, true).await.expect("retried");
    assert_eq!(ready(&transition), [lease.task]);
    let task = world.task(lease.task).await;
    assert_eq!((task.status, task.attempt), (TaskStatus::Queued, 0));
    assert_eq!((task.failure, task.finished_at), (None, None));
    assert_eq!(world.kinds(lease.task).await, ["input", "attempt_failed", "retried"]);
    let claimed = world.claimed(lease.task).await;
    assert_eq!(claimed.task.epoch, 3);
    assert_eq!(claimed.steps.last().map(|step| step.body.clone()), Some(StepBody::Retried { keep_journal: true }));
    world.succeed(claimed.lease(), 3, "at last").await;
    assert_eq!(world.status(lease.task).await, TaskStatus::Succeeded);
}

async fn retried_anew(world: World) {
    let new = domain::NewTask { expires_at: Some(world.after(5)), ..world.new_task() };
    let task = world.submit(new).await.id;
    world.clock.advance(Duration::from_secs(5));
    world.state.expire(world.now(), 10).await.expect("expired");
    assert_eq!(world.task(task).await.failure.map(|failure| failure.kind), Some(FailureKind::Expired));
    world.state.retry(&world.namespace, task, false).await.expect("retried");
    assert_eq!(world.state.expire(world.now(), 10).await.expect("nothing to expire").expired, 0);
    let claimed = world.claimed(task).await;
    assert_eq!(claimed.steps.last().map(|step| step.body.clone()), Some(StepBody::Retried { keep_journal: false }));
}

async fn not_retried(world: World) {
    let unknown = world.state.retry(&world.namespace, domain::TaskId(uuid::Uuid::nil()), true).await;
    assert!(matches!(unknown, Err(StateError::UnknownTask { .. })), "{unknown:?}");
    let lease = world.running().await;
    let refused = world.state.retry(&world.namespace, lease.task, true).await;
    assert!(matches!(refused, Err(StateError::Conflict { status: TaskStatus::Running, .. })), "{refused:?}");
    world.succeed(lease, 1, "done").await;
    let refused = world.state.retry(&world.namespace, lease.task, true).await;
    assert!(matches!(refused, Err(StateError::Conflict { status: TaskStatus::Succeeded, .. })), "{refused:?}");
    let cancelled = world.submitted().await;
    world.state.cancel(&world.namespace, cancelled).await.expect("cancelled");
    assert!(world.state.retry(&world.namespace, cancelled, true).await.is_ok());
    let (_, child) = world.family().await;
    let lease = world.lease(child).await;
    world.fail(lease).await;
    let refused = world.state.retry(&world.namespace, child, true).await;
    assert!(matches!(refused, Err(StateError::Conflict { .. })), "its parent was told: {refused:?}");
}
