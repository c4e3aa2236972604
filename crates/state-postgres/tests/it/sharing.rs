//! Several stores on one database, as several processes have it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use domain::{Clock, Gate, GateLimit, Namespace, NewTask, SystemClock, TaskStatus, Terms, ThreadId};
use state::{State, StateError};
use tokio::task::JoinSet;

use crate::support::{database, model, new_task, open, running, submit, success, try_claim, worker};

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_given_to_one_of_those_who_want_it() {
    let url = database().await;
    let stores = [open(&url), open(&url)];
    let mut tasks = Vec::new();
    for _ in 0..60 {
        tasks.push(submit(&stores[0]).await);
    }
    let given = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for index in 0..16 {
        let (store, tasks, given) = (Arc::clone(&stores[index % 2]), tasks.clone(), Arc::clone(&given));
        workers.spawn(async move {
            let worker = worker();
            for task in tasks {
                if try_claim(&store, task, worker).await.expect("answered").is_some() {
                    given.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    workers.join_all().await;
    assert_eq!(given.load(Ordering::Relaxed), tasks.len());
    assert_eq!(stores[1].leases().await.expect("listed").len(), tasks.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_writers_in_two_processes_lose_and_double_nothing() {
    let url = database().await;
    let stores = [open(&url), open(&url)];
    let thread = ThreadId(uuid::Uuid::from_u128(7));
    let mut lives = JoinSet::new();
    for index in 0..64_usize {
        let (one, other) = (Arc::clone(&stores[index % 2]), Arc::clone(&stores[(index + 1) % 2]));
        lives.spawn(async move {
            let mut ended = Vec::new();
            for round in 0..6 {
                // Two processes are asked for the same at the same time, each with an id of its own.
                let key = Some(format!("{index}-{round}"));
                let thread = (index % 16 == 0 && round == 0).then_some(thread);
                let task = || NewTask { idempotency_key: key.clone(), thread, ..new_task() };
                let (first, second) = tokio::join!(one.submit(task()), other.submit(task()));
                let (first, second) = (first.expect("submitted"), second.expect("submitted"));
                assert_eq!(first.task.id, second.task.id);
                assert!(first.created != second.created);
                let task = first.task.id;
                let worker = worker();
                let lease = loop {
                    // The tasks of the thread take turns.
                    if let Some(claimed) = try_claim(&other, task, worker).await.expect("answered") {
                        break claimed.lease();
                    }
                    tokio::task::yield_now().await;
                };
                one.append(lease, vec![model(1, "one")]).await.expect("appended");
                other.append(lease, vec![model(2, "two")]).await.expect("appended");
                one.finish(lease, success(vec![model(3, "three")])).await.expect("finished");
                ended.push(task);
            }
            ended
        });
    }
    let all: Vec<_> = lives.join_all().await.into_iter().flatten().collect();
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 64 * 6);
    let namespace = Namespace::default();
    for task in all {
        let found = stores[1].task(&namespace, task).await.expect("read").expect("kept");
        assert_eq!((found.status, found.epoch), (TaskStatus::Succeeded, 1));
        let steps = stores[0].journal(&namespace, task, 0, 10).await.expect("read");
        assert_eq!(steps.iter().map(|step| step.seq).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_another_process_took_away_is_void_here() {
    let url = database().await;
    let (here, there) = (open(&url), open(&url));
    let holder = worker();
    let lease = running(&here, holder).await;
    let now = SystemClock::default().now();
    let beats = there.leases().await.expect("listed");
    // It was renewed after it had been looked at.
    assert!(here.renew(holder, vec![lease]).await.expect("renewed").lost.is_empty());
    let spared = there.reap(beats, 5, now).await.expect("reaped");
    assert!(spared.ready.is_empty());
    let beats = there.leases().await.expect("listed");
    let reaped = there.reap(beats, 5, now).await.expect("reaped");
    assert_eq!(reaped.ready.len(), 1);
    let refused = here.append(lease, vec![model(1, "late")]).await;
    assert!(matches!(refused, Err(StateError::LeaseLost { .. })), "{refused:?}");
    let next = try_claim(&there, lease.task, worker()).await.expect("answered").expect("claimed").lease();
    assert_eq!(next.epoch, lease.epoch + 1);
    let refused = here.finish(lease, success(vec![])).await;
    assert!(matches!(refused, Err(StateError::LeaseLost { .. })), "{refused:?}");
    assert_eq!(here.renew(holder, vec![lease]).await.expect("answered").lost, [lease]);
    there.append(next, vec![model(2, "mine")]).await.expect("appended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_counts_what_all_processes_run() {
    let url = database().await;
    let stores = [open(&url), open(&url)];
    let gates = vec![Gate { key: "agent/writer".to_owned(), limit: GateLimit::Running { max: 2 } }];
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let terms = Terms { gates: gates.clone(), ..Terms::default() };
        tasks.push(stores[0].submit(NewTask { terms, ..new_task() }).await.expect("submitted").task.id);
    }
    let mut claims = JoinSet::new();
    for (index, task) in tasks.into_iter().enumerate() {
        let store = Arc::clone(&stores[index % 2]);
        claims.spawn(async move { try_claim(&store, task, worker()).await.expect("answered") });
    }
    let given: Vec<_> = claims.join_all().await.into_iter().flatten().collect();
    assert_eq!(given.len(), 2);
    let ended = stores[1].finish(given[0].lease(), success(vec![model(1, "done")])).await.expect("finished");
    assert_eq!(ended.ready.len(), 1, "the next one is called by whoever made room");
}
