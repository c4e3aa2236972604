//! Conversations: their tasks one after another, their messages without gaps.

use std::time::Duration;

use domain::{Namespace, TaskId, TaskStatus, ThreadMessage};

use super::Run;
use super::world::{MANY, World, ready, wait_signal};
use crate::{Claim, Outcome};

pub(super) const CASES: &[(&str, Run)] = &[
    ("tasks_of_a_thread_run_one_after_another", |w| Box::pin(in_order(w))),
    ("a_task_that_waits_holds_its_thread", |w| Box::pin(waiting_holds(w))),
    ("a_thread_goes_on_when_its_first_task_is_cancelled", |w| Box::pin(cancelled_first(w))),
    ("a_delayed_task_holds_the_later_ones_of_its_thread", |w| Box::pin(delayed_first(w))),
    ("a_retried_task_goes_before_the_later_ones_of_its_thread", |w| Box::pin(retried_first(w))),
    ("threads_do_not_hold_each_other", |w| Box::pin(independent(w))),
    ("messages_are_added_in_order_and_read_in_pages", |w| Box::pin(messages(w))),
    ("every_claim_sees_the_same_conversation", |w| Box::pin(same_conversation(w))),
    ("a_claim_gets_the_latest_messages_that_it_asks_for", |w| Box::pin(latest(w))),
];

async fn in_order(world: World) {
    let thread = World::thread();
    let mut tasks = Vec::new();
    for _ in 0..3 {
        tasks.push(world.submitted_in(thread).await);
    }
    assert!(world.try_claim(tasks[1]).await.is_none() && world.try_claim(tasks[2]).await.is_none());
    let first = world.lease(tasks[0]).await;
    assert!(world.try_claim(tasks[1]).await.is_none());
    assert_eq!(ready(&world.succeed(first, 1, "one").await), [tasks[1]]);
    assert!(world.try_claim(tasks[2]).await.is_none());
    let second = world.lease(tasks[1]).await;
    assert_eq!(ready(&world.fail(second).await), [tasks[2]]);
    let third = world.lease(tasks[2]).await;
    assert_eq!(ready(&world.succeed(third, 1, "three").await), []);
}

async fn waiting_holds(world: World) {
    let thread = World::thread();
    let (first, second) = (world.submitted_in(thread).await, world.submitted_in(thread).await);
    let lease = world.lease(first).await;
    world.state.park(lease, world.park(1, vec![wait_signal("a", "go")], Vec::new())).await.expect("parked");
    assert!(world.try_claim(second).await.is_none());
    world.clock.advance(Duration::from_mins(2));
    assert!(world.due().await.is_empty(), "what cannot run is not announced");
    let signal = world.signal("go", serde_json::json!(1));
    assert_eq!(ready(&world.state.signal(&world.namespace, first, signal).await.expect("sent")), [first]);
    assert!(world.try_claim(second).await.is_none());
    let lease = world.lease(first).await;
    assert_eq!(ready(&world.state.release(lease).await.expect("released")), [first]);
    assert!(world.try_claim(second).await.is_none());
    let lease = world.lease(first).await;
    assert_eq!(ready(&world.succeed(lease, 3, "done").await), [second]);
}

async fn cancelled_first(world: World) {
    let thread = World::thread();
    let (first, second) = (world.submitted_in(thread).await, world.submitted_in(thread).await);
    let cancelled = world.state.cancel(&world.namespace, first).await.expect("cancelled");
    assert_eq!(ready(&cancelled.transition), [second]);
    assert!(world.try_claim(second).await.is_some());
}

async fn delayed_first(world: World) {
    let thread = World::thread();
    let delayed = domain::NewTask { thread: Some(thread), run_at: Some(world.after(10)), ..world.new_task() };
    let first = world.submit(delayed).await.id;
    let second = world.submitted_in(thread).await;
    assert!(world.try_claim(second).await.is_none());
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(world.due().await, [first]);
    let lease = world.lease(first).await;
    assert_eq!(ready(&world.succeed(lease, 1, "one").await), [second]);
}

async fn retried_first(world: World) {
    let thread = World::thread();
    let mut tasks = Vec::new();
    for _ in 0..3 {
        tasks.push(world.submitted_in(thread).await);
    }
    let first = world.lease(tasks[0]).await;
    world.fail(first).await;
    let second = world.lease(tasks[1]).await;
    assert_eq!(ready(&world.state.retry(&world.namespace, tasks[0], true).await.expect("retried")), []);
    assert!(world.try_claim(tasks[0]).await.is_none(), "another task of its thread is running");
    assert_eq!(ready(&world.succeed(second, 1, "two").await), [tasks[0]]);
    assert!(world.try_claim(tasks[2]).await.is_none());
    let first = world.lease(tasks[0]).await;
    assert_eq!(ready(&world.succeed(first, 2, "one").await), [tasks[2]]);
    assert!(world.try_claim(tasks[2]).await.is_some());
}

async fn independent(world: World) {
    let (one, other) = (world.submitted_in(World::thread()).await, world.submitted_in(World::thread()).await);
    assert!(world.try_claim(other).await.is_some() && world.try_claim(one).await.is_some());
}

fn said(messages: &[ThreadMessage]) -> Vec<(u64, &str, &str)> {
    messages.iter().map(|message| (message.seq, message.role.as_str(), message.text.as_str())).collect()
}

async fn spoken(world: &World, task: TaskId, texts: [&str; 2]) {
    let lease = world.lease(task).await;
    world.say_and_succeed(lease, 1, texts).await;
}

async fn messages(world: World) {
    let thread = World::thread();
    let first = world.submitted_in(thread).await;
    spoken(&world, first, ["hello", "hi"]).await;
    let second = world.submitted_in(thread).await;
    spoken(&world, second, ["how are you?", "fine"]).await;
    let failed = world.submitted_in(thread).await;
    let lease = world.lease(failed).await;
    world.fail(lease).await;
    let page = |after, limit| world.state.thread_messages(&world.namespace, thread, after, limit);
    let all = page(0, MANY).await.expect("read").expect("exists");
    let wanted = [(1, "user", "hello"), (2, "assistant", "hi"), (3, "user", "how are you?"), (4, "assistant", "fine")];
    assert_eq!(said(&all), wanted);
    assert_eq!((all[0].task, all[3].task, all[3].at), (first, second, world.now()));
    assert_eq!(said(&page(1, 2).await.expect("read").expect("exists")), wanted[1..3]);
    assert!(page(4, 2).await.expect("read").expect("exists").is_empty());
    assert_eq!(world.state.thread_messages(&world.namespace, World::thread(), 0, 10).await.expect("read"), None);
    let other = Namespace::new("other").expect("a valid name");
    assert_eq!(world.state.thread_messages(&other, thread, 0, 10).await.expect("read"), None);
    let page = world.state.threads(&world.namespace, None, 10).await.expect("read");
    assert_eq!((page.items.len(), page.items[0].id, page.items[0].messages), (1, thread, 4));
}

async fn same_conversation(world: World) {
    let thread = World::thread();
    let task = world.submitted_in(thread).await;
    spoken(&world, task, ["hello", "hi"]).await;
    let (failing, speaking) = (world.submitted_in(thread).await, world.submitted_in(thread).await);
    let lease = world.lease(failing).await;
    world.fail(lease).await;
    spoken(&world, speaking, ["and you?", "me too"]).await;
    world.state.retry(&world.namespace, failing, true).await.expect("retried");
    let kept = world.claimed(failing).await;
    assert_eq!(said(&kept.thread), [(1, "user", "hello"), (2, "assistant", "hi")], "as at its first claim");
    world.state.finish(kept.lease(), world.finish(Vec::new(), Outcome::Cancelled)).await.expect("finished");
    assert_eq!(world.status(failing).await, TaskStatus::Cancelled);
    world.state.retry(&world.namespace, failing, false).await.expect("retried");
    assert_eq!(world.claimed(failing).await.thread.len(), 4, "anew, with all that was said since");
}

async fn latest(world: World) {
    let thread = World::thread();
    for texts in [["1", "2"], ["3", "4"]] {
        let task = world.submitted_in(thread).await;
        spoken(&world, task, texts).await;
    }
    let task = world.submitted_in(thread).await;
    let claim = Claim { task, worker: world.worker(), now: world.now(), thread_messages: 3 };
    let claimed = world.state.claim(claim).await.expect("answered").expect("claimed");
    assert_eq!(said(&claimed.thread), [(2, "assistant", "2"), (3, "user", "3"), (4, "assistant", "4")]);
}
