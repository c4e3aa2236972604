//! Waiting: for sub-tasks, signals and timers, each resolved once, early or late.

use std::time::Duration;

use domain::{ChildOutcome, NewTask, Resolution, StepBody, TaskId, TaskStatus, Usage, Wait};
use serde_json::json;

use super::Run;
use super::world::{World, failure, ready, usage, wait_child, wait_signal, wait_timer};
use crate::{Outcome, Signal, StateError, Transition};

pub(super) const CASES: &[(&str, Run)] = &[
    ("a_parked_task_holds_no_worker", |w| Box::pin(parked(w))),
    ("a_child_that_succeeds_wakes_its_parent_with_its_answer", |w| Box::pin(child_succeeds(w))),
    ("a_child_that_fails_wakes_its_parent_with_its_failure", |w| Box::pin(child_fails(w))),
    ("a_parent_wakes_when_all_its_waits_are_resolved", |w| Box::pin(all_waits(w))),
    ("a_child_that_has_ended_resolves_at_once", |w| Box::pin(child_ended_before(w))),
    ("a_child_submitted_twice_is_one_child", |w| Box::pin(child_known(w))),
    ("a_wait_for_an_unknown_child_changes_nothing", |w| Box::pin(child_unknown(w))),
    ("a_conflicting_child_leaves_no_trace_of_the_park", |w| Box::pin(child_conflict(w))),
    ("a_signal_wakes_the_task_that_waits_for_it", |w| Box::pin(signalled(w))),
    ("a_signal_that_comes_early_is_kept", |w| Box::pin(signalled_early(w))),
    ("a_signal_with_the_same_key_is_delivered_once", |w| Box::pin(signalled_twice(w))),
    ("two_waits_for_one_name_take_two_signals_in_order", |w| Box::pin(two_signals(w))),
    ("a_signal_to_an_ended_or_unknown_task_is_refused", |w| Box::pin(signalled_too_late(w))),
    ("a_timer_wakes_its_task_in_time_and_not_before", |w| Box::pin(timer(w))),
    ("a_timer_that_has_passed_resolves_at_once", |w| Box::pin(timer_passed(w))),
    ("a_wait_that_expires_answers_its_default", |w| Box::pin(expires(w))),
    ("a_wait_is_resolved_once_though_it_expires_too", |w| Box::pin(resolved_then_expired(w))),
    ("a_parents_journal_is_the_same_for_every_claim", |w| Box::pin(replayed(w))),
];

/// How the waits of a task were resolved, in order.
async fn resolutions(world: &World, task: TaskId) -> Vec<(String, Resolution)> {
    let journal = world.journal(task).await;
    let resolved = journal.into_iter().filter_map(|step| match step.body {
        StepBody::Resolved { call_id, by } => {
            assert_eq!(step.epoch, 0, "no worker wrote it");
            Some((call_id, by))
        }
        _ => None,
    });
    resolved.collect()
}

async fn parked(world: World) {
    let lease = world.running().await;
    let waits = vec![wait_timer("call-1", world.after(60))];
    let mut park = world.park(2, waits.clone(), Vec::new());
    park.steps = vec![world.model(1, "I shall wait")];
    assert_eq!(world.state.park(lease, park).await.expect("parked"), Transition::default());
    let task = world.task(lease.task).await;
    assert_eq!((task.status, task.worker), (TaskStatus::Waiting, None));
    assert!(world.state.leases().await.expect("leases").is_empty());
    let journal = world.journal(lease.task).await;
    assert_eq!(journal[2].body, StepBody::Parked { waits });
    assert_eq!(journal[2].epoch, lease.epoch);
}

async fn child_succeeds(world: World) {
    let (parent, child) = world.family().await;
    assert_eq!(world.status(parent).await, TaskStatus::Waiting);
    let recorded = world.task(child).await;
    assert_eq!((recorded.status, recorded.depth), (TaskStatus::Queued, 1));
    assert_eq!(recorded.parent.map(|parent| (parent.task, parent.call_id)), Some((parent, "call-1".to_owned())));
    let lease = world.lease(child).await;
    let transition = world.succeed(lease, 1, "forty-two").await;
    assert_eq!(ready(&transition), [parent]);
    assert_eq!(transition.ended, [(child, TaskStatus::Succeeded)]);
    assert_eq!(world.status(parent).await, TaskStatus::Queued);
    let outcome = ChildOutcome {
        task: child,
        status: TaskStatus::Succeeded,
        output: Some(json!("forty-two")),
        failure: None,
        usage: usage(20),
    };
    assert_eq!(resolutions(&world, parent).await, [("call-1".to_owned(), Resolution::Child(outcome))]);
    let claimed = world.claimed(parent).await;
    assert_eq!(claimed.task.epoch, 2);
    world.succeed(claimed.lease(), 3, "done").await;
}

async fn child_fails(world: World) {
    let (parent, child) = world.family().await;
    let lease = world.lease(child).await;
    assert_eq!(ready(&world.fail(lease).await), [parent]);
    let (_, by) = resolutions(&world, parent).await.remove(0);
    let Resolution::Child(outcome) = by else { panic!("not a child's outcome: {by:?}") };
    assert_eq!((outcome.status, outcome.failure, outcome.output), (TaskStatus::Failed, Some(failure()), None));
}

async fn all_waits(world: World) {
    let lease = world.running().await;
    let children: Vec<_> = ["a", "b"].map(|call| world.new_child(lease.task, call)).into();
    let ids: Vec<_> = children.iter().map(|child| child.id).collect();
    let waits = vec![wait_child("a", ids[0]), wait_child("b", ids[1]), wait_signal("c", "go")];
    let transition = world.state.park(lease, world.park(1, waits, children)).await.expect("parked");
    assert_eq!(ready(&transition), ids);
    let second = world.lease(ids[1]).await;
    assert_eq!(ready(&world.succeed(second, 1, "b").await), []);
    let signal = world.signal("go", json!(true));
    assert_eq!(world.state.signal(&world.namespace, lease.task, signal).await.expect("sent"), Transition::default());
    assert_eq!(world.status(lease.task).await, TaskStatus::Waiting);
    let first = world.lease(ids[0]).await;
    assert_eq!(ready(&world.succeed(first, 1, "a").await), [lease.task]);
    let calls: Vec<_> = resolutions(&world, lease.task).await.into_iter().map(|(call, _)| call).collect();
    assert_eq!(calls, ["b", "c", "a"]);
    assert_eq!(world.kinds(lease.task).await, ["input", "parked", "resolved", "resolved", "resolved"]);
}

async fn child_ended_before(world: World) {
    let lease = world.running().await;
    let child = world.submit(world.new_child(lease.task, "call")).await.id;
    let child_lease = world.lease(child).await;
    assert_eq!(ready(&world.succeed(child_lease, 1, "early").await), []);
    let park = world.park(1, vec![wait_child("call", child)], Vec::new());
    let transition = world.state.park(lease, park).await.expect("parked");
    assert_eq!(ready(&transition), [lease.task]);
    assert_eq!(world.status(lease.task).await, TaskStatus::Queued);
    let (_, by) = resolutions(&world, lease.task).await.remove(0);
    let Resolution::Child(outcome) = by else { panic!("not a child's outcome: {by:?}") };
    assert_eq!((outcome.output, outcome.usage), (Some(json!("early")), usage(20)));
}

async fn child_known(world: World) {
    let lease = world.running().await;
    let child = NewTask { idempotency_key: Some("child".to_owned()), ..world.new_child(lease.task, "call") };
    world.submit(child.clone()).await;
    let again = NewTask { id: world.new_task().id, ..child.clone() };
    let park = world.park(1, vec![wait_child("call", again.id)], vec![again]);
    let transition = world.state.park(lease, park).await.expect("parked");
    assert_eq!(ready(&transition), [], "it was announced when it was submitted");
    let child_lease = world.lease(child.id).await;
    assert_eq!(ready(&world.succeed(child_lease, 1, "once").await), [lease.task]);
    assert_eq!(resolutions(&world, lease.task).await.len(), 1);
}

async fn child_unknown(world: World) {
    let lease = world.running().await;
    let nobody = world.new_task().id;
    let sibling = world.new_child(lease.task, "a");
    let waits = vec![wait_child("a", sibling.id), wait_child("b", nobody)];
    let refused = world.state.park(lease, world.park(1, waits, vec![sibling.clone()])).await;
    assert!(matches!(refused, Err(StateError::UnknownTask { task }) if task == nobody), "{refused:?}");
    assert_untouched(&world, lease, sibling.id).await;
}

async fn child_conflict(world: World) {
    let lease = world.running().await;
    let key = Some("taken".to_owned());
    world.submit(NewTask { idempotency_key: key.clone(), digest: [1; 32], ..world.new_task() }).await;
    let (first, second) = (world.new_child(lease.task, "a"), world.new_child(lease.task, "b"));
    let second = NewTask { idempotency_key: key, ..second };
    let waits = vec![wait_child("a", first.id), wait_child("b", second.id)];
    let refused = world.state.park(lease, world.park(1, waits, vec![first.clone(), second])).await;
    assert!(matches!(refused, Err(StateError::IdempotencyMismatch { .. })), "{refused:?}");
    assert_untouched(&world, lease, first.id).await;
}

async fn assert_untouched(world: &World, lease: domain::Lease, child: TaskId) {
    assert_eq!(world.kinds(lease.task).await, ["input"]);
    assert_eq!(world.state.task(&world.namespace, child).await.expect("read"), None);
    world.state.append(lease, vec![world.model(1, "I still hold it")]).await.expect("appended");
    assert_eq!(world.status(lease.task).await, TaskStatus::Running);
}

async fn signalled(world: World) {
    let task = world.waiting(vec![wait_signal("call", "approval")]).await;
    let other = world.signal("something-else", json!(1));
    assert_eq!(world.state.signal(&world.namespace, task, other).await.expect("kept"), Transition::default());
    assert_eq!(world.status(task).await, TaskStatus::Waiting);
    let signal = world.signal("approval", json!({"ok": true}));
    assert_eq!(ready(&world.state.signal(&world.namespace, task, signal).await.expect("sent")), [task]);
    let by = Resolution::Signal { value: json!({"ok": true}), from: Some("ann".to_owned()) };
    assert_eq!(resolutions(&world, task).await, [("call".to_owned(), by)]);
}

async fn signalled_early(world: World) {
    let task = world.submitted().await;
    let signal = world.signal("approval", json!("queued"));
    assert_eq!(world.state.signal(&world.namespace, task, signal).await.expect("kept"), Transition::default());
    let lease = world.lease(task).await;
    let signal = world.signal("approval", json!("running"));
    world.state.signal(&world.namespace, task, signal).await.expect("kept");
    for wanted in ["queued", "running"] {
        let lease = if wanted == "queued" { lease } else { world.lease(task).await };
        let seq = world.journal(task).await.len() as u32;
        let park = world.park(seq, vec![wait_signal("call", "approval")], Vec::new());
        assert_eq!(ready(&world.state.park(lease, park).await.expect("parked")), [task]);
        let (_, by) = resolutions(&world, task).await.pop().expect("resolved");
        assert_eq!(by, Resolution::Signal { value: json!(wanted), from: Some("ann".to_owned()) });
    }
    let lease = world.lease(task).await;
    let park = world.park(5, vec![wait_signal("call", "approval")], Vec::new());
    assert_eq!(world.state.park(lease, park).await.expect("parked"), Transition::default(), "both were used up");
}

async fn signalled_twice(world: World) {
    let waits = vec![wait_signal("a", "go"), wait_signal("b", "go")];
    let task = world.waiting(waits).await;
    let signal = Signal { key: Some("message-1".to_owned()), ..world.signal("go", json!(1)) };
    for _ in 0..3 {
        world.state.signal(&world.namespace, task, signal.clone()).await.expect("sent");
    }
    assert_eq!(resolutions(&world, task).await.len(), 1);
    let early = world.submitted().await;
    for _ in 0..3 {
        world.state.signal(&world.namespace, early, signal.clone()).await.expect("kept");
    }
    let lease = world.lease(early).await;
    let park = world.park(1, vec![wait_signal("a", "go"), wait_signal("b", "go")], Vec::new());
    world.state.park(lease, park).await.expect("parked");
    world.state.signal(&world.namespace, early, signal).await.expect("the same again");
    assert_eq!(resolutions(&world, early).await.len(), 1);
}

async fn two_signals(world: World) {
    let task = world.waiting(vec![wait_signal("a", "go"), wait_signal("b", "go")]).await;
    for (n, done) in [(1, false), (2, true)] {
        let transition = world.state.signal(&world.namespace, task, world.signal("go", json!(n))).await.expect("sent");
        assert_eq!(ready(&transition) == [task], done);
    }
    let calls: Vec<_> = resolutions(&world, task).await.into_iter().map(|(call, _)| call).collect();
    assert_eq!(calls, ["a", "b"]);
}

async fn signalled_too_late(world: World) {
    let lease = world.running().await;
    world.succeed(lease, 1, "done").await;
    let refused = world.state.signal(&world.namespace, lease.task, world.signal("go", json!(1))).await;
    assert!(matches!(refused, Err(StateError::Ended { status: TaskStatus::Succeeded, .. })), "{refused:?}");
    let nobody = world.new_task().id;
    let refused = world.state.signal(&world.namespace, nobody, world.signal("go", json!(1))).await;
    assert!(matches!(refused, Err(StateError::UnknownTask { .. })), "{refused:?}");
}

async fn timer(world: World) {
    let at = world.after(30);
    let task = world.waiting(vec![wait_timer("call", at)]).await;
    let due = world.state.due(world.now(), Duration::from_mins(1), 10).await.expect("due");
    assert_eq!((due.transition, due.next), (Transition::default(), Some(at)));
    world.clock.advance(Duration::from_micros(29_999_999));
    assert!(world.due().await.is_empty(), "a timer is never early");
    world.clock.advance(Duration::from_micros(1));
    assert_eq!(world.due().await, [task]);
    assert_eq!(resolutions(&world, task).await, [("call".to_owned(), Resolution::Timer)]);
    assert!(world.due().await.is_empty(), "once");
    assert_eq!(world.status(task).await, TaskStatus::Queued);
}

async fn timer_passed(world: World) {
    let lease = world.running().await;
    let park = world.park(1, vec![wait_timer("call", world.now())], Vec::new());
    assert_eq!(ready(&world.state.park(lease, park).await.expect("parked")), [lease.task]);
    assert_eq!(resolutions(&world, lease.task).await, [("call".to_owned(), Resolution::Timer)]);
}

async fn expires(world: World) {
    let expiring =
        |call: &str, default| Wait { expires_at: Some(world.after(10)), default, ..wait_signal(call, "approval") };
    let task = world.waiting(vec![expiring("a", Some(json!("no"))), expiring("b", None)]).await;
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(world.due().await, [task]);
    let wanted = [
        ("a".to_owned(), Resolution::Expired { default: Some(json!("no")) }),
        ("b".to_owned(), Resolution::Expired { default: None }),
    ];
    assert_eq!(resolutions(&world, task).await, wanted);
}

async fn resolved_then_expired(world: World) {
    let expiring = Wait { expires_at: Some(world.after(10)), ..wait_signal("a", "go") };
    let task = world.waiting(vec![expiring, wait_signal("b", "other")]).await;
    world.state.signal(&world.namespace, task, world.signal("go", json!(1))).await.expect("sent");
    world.clock.advance(Duration::from_secs(10));
    assert!(world.due().await.is_empty());
    assert_eq!(resolutions(&world, task).await.len(), 1);
    assert_eq!(world.status(task).await, TaskStatus::Waiting);
}

async fn replayed(world: World) {
    let (parent, child) = world.family().await;
    let lease = world.lease(child).await;
    let finish = world.finish(vec![world.model(1, "answer")], Outcome::Succeeded);
    world.state.finish(lease, finish.clone()).await.expect("finished");
    world.state.finish(lease, finish).await.expect("the same again");
    let first = world.claimed(parent).await;
    world.state.release(first.lease()).await.expect("released");
    assert_eq!(world.claimed(parent).await.steps, first.steps);
    assert_eq!(first.task.usage, Usage::default());
}
