//! Gates: how many tasks run or start at once, who waits for a place, and who is next.

use std::sync::Arc;
use std::time::Duration;

use domain::{Gate, GateLimit, Lease, NewTask, TaskId, TaskStatus, Terms, Timestamp};
use futures::future::join_all;

use super::Run;
use super::world::{MANY, World, failure, ready, wait_signal, wait_timer};
use crate::{AttemptFailed, Claim, GateWait, LeaseBeat};

pub(super) const CASES: &[(&str, Run)] = &[
    ("a_place_that_opens_goes_to_the_highest_priority_and_then_to_the_oldest", |w| Box::pin(order(w))),
    ("whatever_ends_a_lease_opens_its_place", |w| Box::pin(openings(w))),
    ("claims_at_once_never_take_more_places_than_there_are", |w| Box::pin(at_once(w))),
    ("a_parked_task_takes_no_place_and_waits_for_one_when_it_wakes", |w| Box::pin(parked(w))),
    ("a_newcomer_does_not_overtake_those_who_were_woken", |w| Box::pin(fairness(w))),
    ("a_newcomer_of_a_higher_priority_goes_first", |w| Box::pin(priority(w))),
    ("the_place_of_a_woken_task_that_never_comes_goes_to_the_next", |w| Box::pin(promises(w))),
    ("a_lost_announcement_of_a_woken_task_is_made_again_and_keeps_nobody_waiting", |w| Box::pin(lost(w))),
    ("a_limit_on_starts_counts_first_claims_of_a_sliding_time", |w| Box::pin(starts(w))),
    ("a_resumed_task_passes_a_limit_on_starts", |w| Box::pin(resumed(w))),
    ("a_gate_says_who_holds_it_and_whose_turn_it_is", |w| Box::pin(told(w))),
    ("a_limit_of_one_key_does_not_hold_back_another", |w| Box::pin(keys(w))),
    ("a_task_needs_a_place_at_each_of_its_gates", |w| Box::pin(several(w))),
    ("a_new_limit_counts_for_new_tasks_and_lets_nobody_starve", |w| Box::pin(changed(w))),
    ("a_task_that_is_held_back_can_end_and_be_retried", |w| Box::pin(ended(w))),
    ("an_earlier_task_of_its_thread_comes_before_any_gate", |w| Box::pin(threads(w))),
    ("ten_thousand_held_back_by_one_gate_finish_in_order", |w| Box::pin(many(w))),
];

pub(super) fn running(key: &str, max: u32) -> Gate {
    Gate { key: key.to_owned(), limit: GateLimit::Running { max } }
}

pub(super) fn starting(key: &str, max: u32, seconds: u64) -> Gate {
    Gate { key: key.to_owned(), limit: GateLimit::Starts { max, per_ms: seconds * 1_000 } }
}

impl World {
    pub(super) fn new_gated(&self, gates: &[Gate]) -> NewTask {
        NewTask { terms: Terms { gates: gates.to_vec(), ..Terms::default() }, ..self.new_task() }
    }

    async fn gated(&self, gates: &[Gate]) -> TaskId {
        self.submit(self.new_gated(gates)).await.id
    }

    /// A task that its gates hold back.
    async fn held_back(&self, gates: &[Gate]) -> TaskId {
        let task = self.gated(gates).await;
        self.refused(task).await;
        task
    }

    async fn refused(&self, task: TaskId) {
        assert!(self.try_claim(task).await.is_none(), "a gate is closed");
        assert_eq!(self.status(task).await, TaskStatus::Queued);
    }

    async fn done(&self, lease: Lease) -> Vec<TaskId> {
        ready(&self.succeed(lease, 1, "done").await)
    }

    async fn gate(&self, task: TaskId) -> Option<GateWait> {
        self.state.gate(&self.namespace, task, self.now()).await.expect("answered")
    }
}

async fn order(world: World) {
    let gate = [running("a", 1)];
    let first = world.gated(&gate).await;
    let lease = world.lease(first).await;
    let old = world.held_back(&gate).await;
    let young = world.held_back(&gate).await;
    let urgent = world.submit(NewTask { priority: 9, ..world.new_gated(&gate) }).await.id;
    world.refused(urgent).await;
    assert!(world.due().await.is_empty(), "what is held back is not announced");
    let mut lease = lease;
    for next in [urgent, old, young] {
        assert_eq!(world.done(lease).await, [next]);
        lease = world.lease(next).await;
    }
    assert_eq!(world.done(lease).await, []);
    let state = world.gate(young).await;
    assert_eq!(state, None);
}

async fn openings(world: World) {
    let gate = [running("a", 1)];
    let holder = world.gated(&gate).await;
    let lease = world.lease(holder).await;
    let next = world.held_back(&gate).await;
    let transition = world.state.release(lease).await.expect("released");
    assert!(ready(&transition).contains(&next), "released");

    let lease = world.lease(next).await;
    world.refused(holder).await;
    let failed = AttemptFailed { seq: 1, at: world.now(), failure: failure(), retry_at: world.after(60) };
    let transition = world.state.fail_attempt(lease, failed).await.expect("failed");
    assert_eq!(ready(&transition), [holder], "an attempt failed");

    let lease = world.lease(holder).await;
    let waiting = world.held_back(&gate).await;
    let park = world.park(1, vec![wait_signal("call-1", "go")], Vec::new());
    assert_eq!(ready(&world.state.park(lease, park).await.expect("parked")), [waiting], "parked");

    let lease = world.lease(waiting).await;
    let another = world.held_back(&gate).await;
    let cancelled = world.state.cancel(&world.namespace, waiting).await.expect("asked");
    assert_eq!(ready(&cancelled.transition), [], "its worker has not stopped yet");
    assert_eq!(ready(&world.state.release(lease).await.expect("released")), [another], "cancelled");
    assert_eq!(world.status(waiting).await, TaskStatus::Cancelled);

    let lease = world.lease(another).await;
    let last = world.held_back(&gate).await;
    let beat = LeaseBeat { lease, worker: world.worker(), beat: 0 };
    let transition = world.state.reap(vec![beat], 5, world.now()).await.expect("reaped");
    assert!(ready(&transition).contains(&last), "reaped");

    let lease = world.lease(last).await;
    world.refused(another).await;
    assert_eq!(ready(&world.fail(lease).await), [another], "failed");
}

async fn at_once(world: World) {
    let gate = [running("a", 3)];
    let mut tasks = Vec::new();
    for _ in 0..20 {
        tasks.push(world.gated(&gate).await);
    }
    let (now, worker) = (world.now(), world.worker());
    let claims = tasks.into_iter().map(|task| {
        let state = Arc::clone(&world.state);
        let claim = Claim { task, worker, now, thread_messages: 0 };
        tokio::spawn(async move { state.claim(claim).await.expect("answered") })
    });
    let won = join_all(claims).await.into_iter().filter(|claim| matches!(claim, Ok(Some(_)))).count();
    assert_eq!(won, 3);
}

async fn parked(world: World) {
    let gate = [running("a", 1)];
    let parker = world.gated(&gate).await;
    let lease = world.lease(parker).await;
    let park = world.park(1, vec![wait_timer("call-1", world.after(10))], Vec::new());
    world.state.park(lease, park).await.expect("parked");
    let other = world.gated(&gate).await;
    let lease = world.lease(other).await;
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(world.due().await, [parker]);
    world.refused(parker).await;
    let next = world.held_back(&gate).await;
    assert_eq!(world.done(lease).await, [parker], "it is older than {next}");
    let lease = world.lease(parker).await;
    let finish = world.finish(vec![world.model(3, "done")], crate::Outcome::Succeeded);
    assert_eq!(ready(&world.state.finish(lease, finish).await.expect("finished")), [next]);
}

async fn fairness(world: World) {
    let gate = [running("a", 1)];
    let holder = world.gated(&gate).await;
    let lease = world.lease(holder).await;
    let first = world.held_back(&gate).await;
    let second = world.held_back(&gate).await;
    assert_eq!(world.done(lease).await, [first]);
    let newcomer = world.held_back(&gate).await;
    world.refused(second).await;
    let lease = world.lease(first).await;
    assert_eq!(world.done(lease).await, [second]);
    let lease = world.lease(second).await;
    assert_eq!(world.done(lease).await, [newcomer]);
}

async fn priority(world: World) {
    let gate = [running("a", 1)];
    let holder = world.gated(&gate).await;
    let lease = world.lease(holder).await;
    let woken = world.held_back(&gate).await;
    assert_eq!(world.done(lease).await, [woken]);
    let urgent = world.submit(NewTask { priority: 6, ..world.new_gated(&gate) }).await.id;
    let lease = world.lease(urgent).await;
    world.refused(woken).await;
    assert_eq!(world.done(lease).await, [woken], "it is woken once more");
    world.claimed(woken).await;
}

async fn promises(world: World) {
    let gate = [running("a", 1)];
    let holder = world.gated(&gate).await;
    let lease = world.lease(holder).await;
    let cancelled = world.held_back(&gate).await;
    let expiring = world.submit(NewTask { expires_at: Some(world.after(5)), ..world.new_gated(&gate) }).await.id;
    world.refused(expiring).await;
    let last = world.held_back(&gate).await;
    assert_eq!(world.done(lease).await, [cancelled]);
    let stopped = world.state.cancel(&world.namespace, cancelled).await.expect("cancelled");
    assert_eq!(ready(&stopped.transition), [expiring]);
    world.clock.advance(Duration::from_secs(5));
    let expired = world.state.expire(world.now(), MANY).await.expect("expired");
    assert_eq!(ready(&expired.transition), [last]);
    world.claimed(last).await;
}

async fn lost(world: World) {
    let gate = [running("a", 1)];
    let holder = world.gated(&gate).await;
    let lease = world.lease(holder).await;
    let woken = world.held_back(&gate).await;
    let behind = world.held_back(&gate).await;
    assert_eq!(world.done(lease).await, [woken]);
    assert!(world.due().await.is_empty());
    world.clock.advance(Duration::from_mins(1));
    // Nobody came for it in all that time: the next one need not wait for a pool that is gone.
    assert_eq!(world.due().await, [woken, behind]);
    let lease = world.lease(woken).await;
    world.refused(behind).await;
    assert_eq!(world.done(lease).await, [behind]);
}

async fn starts(world: World) {
    let gate = [starting("a", 2, 10)];
    let begin = world.now();
    let at = |micros: u64| begin + Duration::from_micros(micros);
    let first = world.gated(&gate).await;
    let lease = world.lease(first).await;
    assert_eq!(world.done(lease).await, [], "an end makes no room for a start");
    world.clock.advance(Duration::from_secs(4));
    let second = world.gated(&gate).await;
    world.claimed(second).await;
    let third = world.held_back(&gate).await;
    let fourth = world.held_back(&gate).await;
    let wait = world.gate(third).await.expect("held back");
    assert_eq!((wait.gate, wait.holders, wait.position), (gate[0].clone(), Vec::new(), 1));
    assert_eq!(wait.until, Some(at(10_000_000)));
    world.clock.advance(Duration::from_micros(5_999_999));
    let due = world.state.due(world.now(), Duration::from_mins(1), MANY).await.expect("due");
    assert_eq!((ready(&due.transition), due.next), (Vec::new(), Some(at(10_000_000))));
    world.refused(third).await;
    world.clock.advance(Duration::from_micros(1));
    let due = world.state.due(world.now(), Duration::from_mins(1), MANY).await.expect("due");
    assert_eq!((ready(&due.transition), due.next), (vec![third], Some(at(14_000_000))));
    world.refused(fourth).await;
    world.claimed(third).await;
    let due = world.state.due(world.now(), Duration::from_mins(1), MANY).await.expect("due");
    assert_eq!((ready(&due.transition), due.next), (Vec::new(), Some(at(14_000_000))));
    world.clock.advance(Duration::from_secs(4));
    assert_eq!(world.due().await, [fourth]);
    world.claimed(fourth).await;
}

async fn resumed(world: World) {
    let gate = [starting("a", 1, 3_600)];
    let task = world.gated(&gate).await;
    let lease = world.lease(task).await;
    world.held_back(&gate).await;
    world.state.release(lease).await.expect("released");
    let lease = world.lease(task).await;
    let park = world.park(1, vec![wait_signal("call-1", "go")], Vec::new());
    world.state.park(lease, park).await.expect("parked");
    let signal = world.signal("go", true.into());
    assert_eq!(ready(&world.state.signal(&world.namespace, task, signal).await.expect("sent")), [task]);
    world.claimed(task).await;
}

async fn told(world: World) {
    let gate = [running("a", 12)];
    let mut holders = Vec::new();
    for _ in 0..12 {
        let task = world.gated(&gate).await;
        world.claimed(task).await;
        holders.push(task);
    }
    let low = world.submit(NewTask { priority: 1, ..world.new_gated(&gate) }).await.id;
    assert_eq!(world.gate(low).await, None, "nobody has refused it yet");
    world.refused(low).await;
    let normal = world.held_back(&gate).await;
    let high = world.submit(NewTask { priority: 7, ..world.new_gated(&gate) }).await.id;
    world.refused(high).await;
    for (task, position) in [(high, 1), (normal, 2), (low, 3)] {
        let wait = world.gate(task).await.expect("held back");
        assert_eq!((&wait.gate, wait.position, wait.until), (&gate[0], position, None::<Timestamp>));
        assert_eq!(wait.holders, holders[..10]);
    }
    assert_eq!(world.gate(holders[0]).await, None);
    let other = domain::Namespace::new("other").expect("a name");
    assert_eq!(world.state.gate(&other, low, world.now()).await.expect("answered"), None);
}

async fn keys(world: World) {
    let of = |key: &str| [running("agent/a", 3), running(&format!("agent/a/key/{key}"), 1)];
    let ann = world.gated(&of("ann")).await;
    let lease = world.lease(ann).await;
    let ann_again = world.held_back(&of("ann")).await;
    let bob = world.gated(&of("bob")).await;
    world.claimed(bob).await;
    assert_eq!(world.gate(ann_again).await.expect("held back").gate, of("ann")[1]);
    assert_eq!(world.done(lease).await, [ann_again]);
    // The same key of another namespace is another gate.
    let elsewhere = domain::Namespace::new("other").expect("a name");
    let stranger = world.submit(NewTask { namespace: elsewhere, ..world.new_gated(&of("bob")) }).await.id;
    world.claimed(stranger).await;
}

async fn several(world: World) {
    let (wide, narrow) = (running("namespace", 2), running("agent/a", 1));
    let both = [wide.clone(), narrow.clone()];
    let first = world.gated(&both).await;
    let first = world.lease(first).await;
    let other = world.gated(std::slice::from_ref(&wide)).await;
    let other = world.lease(other).await;
    let second = world.held_back(&both).await;
    let third = world.held_back(&both).await;
    let plain = world.held_back(std::slice::from_ref(&wide)).await;
    assert_eq!(world.gate(second).await.expect("held back").gate, wide, "the first closed one");
    // The older ones still lack a place at the other gate, and keep nobody waiting for that.
    assert_eq!(world.done(other).await, [plain]);
    let plain = world.lease(plain).await;
    assert_eq!(world.done(first).await, [second]);
    let second = world.lease(second).await;
    assert_eq!(world.done(plain).await, []);
    let wait = world.gate(third).await.expect("held back");
    assert_eq!((wait.gate, wait.holders, wait.position), (narrow, vec![second.task], 1));
    assert_eq!(world.done(second).await, [third]);
}

async fn changed(world: World) {
    let (old, new) = ([running("a", 1)], [running("a", 3)]);
    let first = world.gated(&old).await;
    let lease = world.lease(first).await;
    let waiting = world.held_back(&old).await;
    // There would be room for it, but those who are before it would never have their turn.
    let newcomer = world.held_back(&new).await;
    assert_eq!(world.done(lease).await, [waiting, newcomer]);
    let waiting = world.lease(waiting).await;
    world.claimed(newcomer).await;
    let another = world.gated(&new).await;
    world.claimed(another).await;
    world.held_back(&new).await;
    assert_eq!(world.done(waiting).await.len(), 1);
}

async fn ended(world: World) {
    let gate = [running("a", 1)];
    let holder = world.gated(&gate).await;
    let lease = world.lease(holder).await;
    let task = world.held_back(&gate).await;
    let behind = world.held_back(&gate).await;
    world.state.cancel(&world.namespace, task).await.expect("cancelled");
    assert_eq!(world.gate(task).await, None);
    assert_eq!(world.gate(behind).await.expect("held back").position, 1);
    let transition = world.state.retry(&world.namespace, task, true).await.expect("retried");
    assert_eq!(ready(&transition), [task]);
    world.refused(task).await;
    assert_eq!(world.gate(task).await.expect("held back").position, 1, "it is older");
    assert_eq!(world.gate(behind).await.expect("held back").position, 2);
    assert_eq!(world.done(lease).await, [task]);
}

async fn threads(world: World) {
    let gate = [running("a", 1)];
    let thread = World::thread();
    let said = |world: &World| NewTask { thread: Some(thread), ..world.new_gated(&gate) };
    let earlier = world.submit(said(&world)).await.id;
    let later = world.submit(said(&world)).await.id;
    assert!(world.try_claim(later).await.is_none());
    assert_eq!(world.gate(later).await, None, "its thread holds it back, and no gate");
    let holder = world.gated(&gate).await;
    let lease = world.lease(holder).await;
    world.refused(earlier).await;
    world.state.cancel(&world.namespace, later).await.expect("cancelled");
    assert!(world.gate(earlier).await.is_some());
    assert_eq!(world.done(lease).await, [earlier]);
    let lease = world.lease(earlier).await;
    let last = world.submit(said(&world)).await.id;
    assert_eq!(world.done(lease).await, [last], "the thread lets it go");
    world.claimed(last).await;
}

async fn many(world: World) {
    const TASKS: usize = 10_000;
    const PLACES: usize = 100;
    let gate = [running("a", PLACES as u32)];
    // Calls that are under way together may be done in any order, those of two turns may not.
    let mut turns: Vec<Vec<TaskId>> = Vec::new();
    for _ in 0..=TASKS / PLACES {
        let submits = (0..PLACES).map(|_| world.state.submit(world.new_gated(&gate)));
        turns.push(join_all(submits).await.into_iter().map(|done| done.expect("submitted").task.id).collect());
    }
    let (first, line) = turns.split_first().expect("the first turn");
    let mut held: Vec<Lease> = join_all(first.iter().map(|task| world.lease(*task))).await;
    let claims = join_all(line.iter().flatten().map(|task| world.try_claim(*task))).await;
    assert_eq!(claims.iter().flatten().count(), 0, "all places are taken");
    let mut farthest = 0;
    for task in line.last().expect("the last turn") {
        farthest = farthest.max(world.gate(*task).await.expect("held back").position);
    }
    assert_eq!(farthest, TASKS as u64);
    for turn in line {
        let finish = || world.finish(vec![world.model(1, "done")], crate::Outcome::Succeeded);
        let finished = join_all(held.iter().map(|lease| world.state.finish(*lease, finish()))).await;
        let mut woken: Vec<TaskId> = finished.into_iter().flat_map(|done| ready(&done.expect("finished"))).collect();
        let mut turn = turn.clone();
        woken.sort_unstable();
        turn.sort_unstable();
        assert_eq!(woken, turn);
        held = join_all(turn.iter().map(|task| world.lease(*task))).await;
    }
}
