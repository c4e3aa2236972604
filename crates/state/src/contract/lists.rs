//! Lists and counts.

use domain::{ExecutionMode, Namespace, NewTask, TaskId, TaskStatus};

use super::Run;
use super::world::{World, agent};
use crate::{Page, PutCondition, TaskFilter};

pub(super) const CASES: &[(&str, Run)] = &[
    ("tasks_are_listed_newest_first_in_pages", |w| Box::pin(pages(w))),
    ("tasks_are_listed_by_agent_status_thread_and_parent", |w| Box::pin(filters(w))),
    ("a_list_shows_its_own_namespace_alone", |w| Box::pin(namespaces(w))),
    ("threads_are_listed_newest_first_in_pages", |w| Box::pin(threads(w))),
    ("what_is_stored_is_counted", |w| Box::pin(stats(w))),
    ("the_store_answers_until_it_is_closed", |w| Box::pin(closed(w))),
];

fn ids(page: &Page<domain::Task>) -> Vec<TaskId> {
    page.items.iter().map(|task| task.id).collect()
}

async fn list(world: &World, filter: TaskFilter) -> Vec<TaskId> {
    ids(&world.state.tasks(&world.namespace, filter, None, 100).await.expect("read"))
}

async fn pages(world: World) {
    let mut tasks = Vec::new();
    for _ in 0..5 {
        tasks.push(world.submitted().await);
    }
    tasks.reverse();
    let page = |after, limit| world.state.tasks(&world.namespace, TaskFilter::default(), after, limit);
    let first = page(None, 2).await.expect("read");
    assert_eq!((ids(&first), first.more), (tasks[..2].to_vec(), true));
    // Newer tasks do not move the pages after the first.
    world.submitted().await;
    let second = page(Some(tasks[1]), 2).await.expect("read");
    assert_eq!((ids(&second), second.more), (tasks[2..4].to_vec(), true));
    let third = page(Some(tasks[3]), 2).await.expect("read");
    assert_eq!((ids(&third), third.more), (tasks[4..].to_vec(), false));
    let end = page(Some(tasks[4]), 2).await.expect("read");
    assert_eq!((ids(&end), end.more), (Vec::new(), false));
    let exact = page(None, 6).await.expect("read");
    assert_eq!((exact.items.len(), exact.more), (6, false));
}

async fn filters(world: World) {
    let thread = World::thread();
    let other = world.submit(NewTask { agent: agent("other"), ..world.new_task() }).await.id;
    let in_thread = world.submitted_in(thread).await;
    let failed = world.running().await;
    world.fail(failed).await;
    let (parent, child) = world.family().await;
    let done = world.running().await;
    world.succeed(done, 1, "done").await;
    let by_status = |statuses: &[TaskStatus]| TaskFilter { statuses: statuses.to_vec(), ..TaskFilter::default() };
    assert_eq!(list(&world, by_status(&[TaskStatus::Failed])).await, [failed.task]);
    assert_eq!(list(&world, by_status(&[TaskStatus::Succeeded])).await, [done.task]);
    assert_eq!(list(&world, by_status(&[TaskStatus::Waiting])).await, [parent]);
    assert_eq!(list(&world, by_status(&[TaskStatus::Failed, TaskStatus::Waiting])).await, [parent, failed.task]);
    assert_eq!(list(&world, by_status(&[TaskStatus::Queued])).await, [child, in_thread, other]);
    assert_eq!(list(&world, by_status(&[TaskStatus::Failed, TaskStatus::Cancelled])).await, [failed.task]);
    let by_agent = TaskFilter { agent: Some(agent("other")), ..TaskFilter::default() };
    assert_eq!(list(&world, by_agent.clone()).await, [other]);
    let none = TaskFilter { statuses: vec![TaskStatus::Running], ..by_agent };
    assert!(list(&world, none).await.is_empty());
    let by_thread = |thread| TaskFilter { thread: Some(thread), ..TaskFilter::default() };
    assert_eq!(list(&world, by_thread(thread)).await, [in_thread]);
    assert!(list(&world, by_thread(World::thread())).await.is_empty());
    assert_eq!(list(&world, TaskFilter { parent: Some(parent), ..TaskFilter::default() }).await, [child]);
}

async fn namespaces(world: World) {
    let other = Namespace::new("other").expect("a valid name");
    let mine = world.submitted().await;
    let theirs = world.submit(NewTask { namespace: other.clone(), ..world.new_task() }).await.id;
    assert_eq!(list(&world, TaskFilter::default()).await, [mine]);
    let page = world.state.tasks(&other, TaskFilter::default(), None, 10).await.expect("read");
    assert_eq!(ids(&page), [theirs]);
    assert!(world.state.cancel(&other, mine).await.is_err());
    let signal = world.signal("go", serde_json::json!(1));
    assert!(world.state.signal(&other, mine, signal).await.is_err());
    assert_eq!(world.state.answer(&other, mine).await.expect("read"), None);
}

async fn threads(world: World) {
    let mut threads: Vec<_> = (0..3).map(|_| World::thread()).collect();
    for thread in &threads {
        world.submitted_in(*thread).await;
        world.submitted_in(*thread).await;
    }
    threads.reverse();
    let first = world.state.threads(&world.namespace, None, 2).await.expect("read");
    assert_eq!(first.items.iter().map(|thread| thread.id).collect::<Vec<_>>(), threads[..2]);
    assert!(first.more);
    let second = world.state.threads(&world.namespace, Some(threads[1]), 2).await.expect("read");
    assert_eq!(second.items.iter().map(|thread| thread.id).collect::<Vec<_>>(), threads[2..]);
    assert!(!second.more);
    assert_eq!((second.items[0].created_at, second.items[0].messages), (world.now(), 0));
}

async fn stats(world: World) {
    let other = Namespace::new("other").expect("a valid name");
    world.submitted_in(World::thread()).await;
    world.submit(NewTask { mode: ExecutionMode::Continuous, namespace: other.clone(), ..world.new_task() }).await;
    let done = world.running().await;
    world.succeed(done, 1, "done").await;
    let running = world.running().await;
    world.state.append(running, vec![world.model(1, "a")]).await.expect("appended");
    let put =
        world.state.put_value(&other, "scope", "key", serde_json::json!(1), None, PutCondition::Always, world.now());
    put.await.expect("put");
    let all = world.state.stats(None).await.expect("stats");
    let counts = [(TaskStatus::Queued, 2), (TaskStatus::Running, 1), (TaskStatus::Succeeded, 1)];
    assert_eq!(all.tasks, counts.into());
    assert_eq!(all.queued, [(ExecutionMode::Autonomous, 1), (ExecutionMode::Continuous, 1)].into());
    assert_eq!(all.active, [(agent("writer"), TaskStatus::Queued, 2), (agent("writer"), TaskStatus::Running, 1)]);
    assert_eq!((all.values, all.threads), (1, 1));
    assert!(all.bytes > 0);
    let theirs = world.state.stats(Some(&other)).await.expect("stats");
    assert_eq!(theirs.tasks, [(TaskStatus::Queued, 1)].into());
    assert_eq!((theirs.values, theirs.threads), (1, 0));
}

async fn closed(world: World) {
    world.state.ping().await.expect("open");
    let lease = world.running().await;
    world.state.close().await;
    world.state.close().await;
    assert!(matches!(world.state.ping().await, Err(crate::StateError::Closed)));
    let write = world.state.append(lease, vec![world.model(1, "late")]).await;
    assert!(matches!(write, Err(crate::StateError::Closed)), "{write:?}");
    assert!(world.state.task(&world.namespace, lease.task).await.is_err());
}
