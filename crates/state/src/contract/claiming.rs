//! Leases: who holds a task, and how a holder learns that it does no longer.

use std::sync::Arc;

use domain::{Ids, Lease, NewTask, SystemIds, TaskId, TaskStatus, WorkerId};
use futures::future::join_all;

use super::Run;
use super::world::{World, assert_lost, failure, wait_timer};
use crate::{AttemptFailed, Claim, LeaseBeat, Outcome, Renewed};

pub(super) const CASES: &[(&str, Run)] = &[
    ("a_claim_gives_the_next_epoch_and_the_whole_journal", |w| Box::pin(claimed(w))),
    ("only_one_of_many_claims_wins", |w| Box::pin(one_wins(w))),
    ("what_is_not_queued_or_not_yet_due_is_not_claimed", |w| Box::pin(unclaimable(w))),
    ("every_write_under_an_old_epoch_is_refused", |w| Box::pin(fenced(w))),
    ("every_write_under_a_lease_that_was_never_given_is_refused", |w| Box::pin(invented(w))),
    ("a_renewal_counts_and_tells_what_was_lost", |w| Box::pin(renewals(w))),
    ("a_released_task_is_ready_at_once_and_costs_no_attempt", |w| Box::pin(released(w))),
];

async fn claimed(world: World) {
    let task = world.submitted().await;
    let first = world.claimed(task).await;
    assert_eq!((first.task.status, first.task.epoch), (TaskStatus::Running, 1));
    assert_eq!(first.task.worker, Some(world.worker()));
    assert_eq!(first.task.started_at, Some(world.now()));
    assert_eq!(first.steps, world.journal(task).await);
    assert!(first.thread.is_empty());
    world.state.append(first.lease(), vec![world.model(1, "a"), world.model(2, "b")]).await.expect("appended");
    let stored = world.task(task).await;
    assert_eq!((stored.status, stored.epoch, stored.worker), (TaskStatus::Running, 1, Some(world.worker())));
    world.state.release(first.lease()).await.expect("released");
    let started_at = first.task.started_at;
    world.clock.advance(std::time::Duration::from_secs(5));
    let second = world.claimed(task).await;
    assert_eq!(second.task.epoch, 2);
    assert_eq!(second.task.started_at, started_at, "a task starts once");
    assert_eq!(second.steps.iter().map(|step| (step.seq, step.epoch)).collect::<Vec<_>>(), [(0, 0), (1, 1), (2, 1)]);
}

async fn one_wins(world: World) {
    let task = world.submitted().await;
    let now = world.now();
    let claims = (0..20).map(|_| {
        let state = Arc::clone(&world.state);
        let claim = Claim { task, worker: WorkerId(SystemIds.uuid()), now, thread_messages: 0 };
        tokio::spawn(async move { state.claim(claim).await.expect("answered") })
    });
    let won = join_all(claims).await.into_iter().filter(|claim| matches!(claim, Ok(Some(_)))).count();
    assert_eq!(won, 1);
}

async fn unclaimable(world: World) {
    assert!(world.try_claim(TaskId(SystemIds.uuid())).await.is_none(), "an unknown task");
    let delayed = world.submit(NewTask { run_at: Some(world.after(10)), ..world.new_task() }).await.id;
    assert!(world.try_claim(delayed).await.is_none(), "its time has not come");
    let expiring = world.submit(NewTask { expires_at: Some(world.after(10)), ..world.new_task() }).await.id;
    let late = world.submit(NewTask { deadline: Some(world.after(10)), ..world.new_task() }).await.id;
    world.clock.advance(std::time::Duration::from_secs(10));
    assert!(world.try_claim(expiring).await.is_none(), "its time to live is over");
    assert!(world.try_claim(late).await.is_none(), "its deadline has passed");
    let lease = world.lease(delayed).await;
    assert!(world.try_claim(delayed).await.is_none(), "it is running");
    let park = world.park(1, vec![wait_timer("call", world.after(10))], Vec::new());
    world.state.park(lease, park).await.expect("parked");
    assert!(world.try_claim(delayed).await.is_none(), "it is waiting");
    let ended = world.running().await;
    world.succeed(ended, 1, "done").await;
    assert!(world.try_claim(ended.task).await.is_none(), "it has ended");
}

async fn assert_all_refused(world: &World, lease: Lease) {
    assert_lost(world.state.append(lease, vec![world.model(1, "zombie")]).await, lease);
    assert_lost(world.state.finish(lease, world.finish(Vec::new(), Outcome::Succeeded)).await, lease);
    assert_lost(world.state.finish(lease, world.finish(Vec::new(), Outcome::Failed(failure()))).await, lease);
    let park = world.park(1, vec![wait_timer("call", world.after(1))], vec![world.new_child(lease.task, "call")]);
    assert_lost(world.state.park(lease, park).await, lease);
    let failed = AttemptFailed { seq: 1, at: world.now(), failure: failure(), retry_at: world.now() };
    assert_lost(world.state.fail_attempt(lease, failed).await, lease);
    assert_lost(world.state.release(lease).await, lease);
    let renewed = world.state.renew(world.worker(), vec![lease]).await.expect("answered");
    assert_eq!(renewed, Renewed { lost: vec![lease], cancel: Vec::new() });
}

async fn fenced(world: World) {
    let old = world.running().await;
    world.state.release(old).await.expect("released");
    assert_all_refused(&world, old).await;
    let new = world.lease(old.task).await;
    assert_eq!(new.epoch, old.epoch + 1);
    assert_all_refused(&world, old).await;
    world.state.append(new, vec![world.model(1, "mine")]).await.expect("appended");
    assert_eq!(world.kinds(old.task).await, ["input", "model"]);
    let stats = world.state.stats(None).await.expect("stats");
    assert_eq!(stats.tasks.values().sum::<u64>(), 1, "a refused park leaves no sub-task");
    world.succeed(new, 2, "done").await;
    assert_all_refused(&world, old).await;
    assert_eq!(world.status(old.task).await, TaskStatus::Succeeded);
}

async fn invented(world: World) {
    assert_all_refused(&world, Lease { task: TaskId(SystemIds.uuid()), epoch: 1 }).await;
    let queued = world.submitted().await;
    assert_all_refused(&world, Lease { task: queued, epoch: 0 }).await;
    let running = world.running().await;
    assert_all_refused(&world, Lease { task: running.task, epoch: running.epoch + 1 }).await;
}

async fn renewals(world: World) {
    let (first, second) = (world.running().await, world.running().await);
    let stranger = WorkerId(SystemIds.uuid());
    let beat =
        |leases: Vec<LeaseBeat>, lease| leases.into_iter().find(|beat| beat.lease == lease).map(|beat| beat.beat);
    let before = beat(world.state.leases().await.expect("leases"), first).expect("held");
    let gone = Lease { task: TaskId(SystemIds.uuid()), epoch: 1 };
    let renewed = world.state.renew(world.worker(), vec![first, gone]).await.expect("renewed");
    assert_eq!(renewed, Renewed { lost: vec![gone], cancel: Vec::new() });
    let leases = world.state.leases().await.expect("leases");
    assert_eq!(leases.len(), 2);
    assert!(leases.iter().all(|beat| beat.worker == world.worker()));
    assert!(beat(leases.clone(), first).expect("held") > before);
    let other = beat(leases, second).expect("held");
    assert_eq!(world.state.renew(stranger, vec![second]).await.expect("renewed").lost, [second], "not its lease");
    assert_eq!(beat(world.state.leases().await.expect("leases"), second), Some(other));
    world.state.cancel(&world.namespace, second.task).await.expect("asked");
    let renewed = world.state.renew(world.worker(), vec![first, second]).await.expect("renewed");
    assert_eq!(renewed, Renewed { lost: Vec::new(), cancel: vec![second] });
}

async fn released(world: World) {
    let lease = world.running().await;
    world.state.append(lease, vec![world.model(1, "kept")]).await.expect("appended");
    let transition = world.state.release(lease).await.expect("released");
    assert_eq!(transition.ready.iter().map(|ready| ready.task).collect::<Vec<_>>(), [lease.task]);
    assert!(transition.ended.is_empty() && transition.stopping.is_empty());
    let task = world.task(lease.task).await;
    assert_eq!((task.status, task.attempt, task.worker), (TaskStatus::Queued, 0, None));
    assert!(world.state.leases().await.expect("leases").is_empty());
    assert_eq!(world.claimed(lease.task).await.steps.len(), 2);
}
