//! Large steps and long journals, over any bus.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bus::{InprocBus, Requests};
use domain::Namespace;
use futures::future::join_all;
use state::{State, StateError};
use state_remote::{ClientOptions, RemoteState, ServerOptions};

use crate::network::Network;
use crate::support::{PATIENCE, Platform, model_step};

const MIB: usize = 1 << 20;

/// A build without optimization, beside other tests, takes seconds for 20 MiB of JSON.
pub(crate) fn unhurried() -> ClientOptions {
    ClientOptions { read_timeout: PATIENCE, write_timeout: PATIENCE, ..ClientOptions::default() }
}

/// A step of 5 MiB and a journal of 20 MiB come back as they were.
pub(crate) async fn large_bodies_pass(requests: Arc<dyn Requests>, remote: Arc<RemoteState>) {
    let platform = Platform::start_on(requests, ServerOptions::default()).await;
    let lease = platform.running().await;
    // Not one letter alone: the store compresses what it keeps.
    let text =
        |n: usize| (0..5 * MIB).map(|at| char::from(b'a' + ((at * 31 + at / 7 + n) % 26) as u8)).collect::<String>();
    for n in 1..=4 {
        remote.append(lease, vec![model_step(n, platform.now(), text(n as usize))]).await.unwrap();
    }
    let journal = remote.journal(&Namespace::default(), lease.task, 0, 100).await.unwrap();
    assert_eq!(journal, platform.store.journal(&Namespace::default(), lease.task, 0, 100).await.unwrap());
    let domain::StepBody::Model(step) = &journal[4].body else { panic!("the fourth step") };
    assert_eq!(step.text, text(4));
    remote.release(lease).await.unwrap();
    let claimed = remote.claim(platform.claim(lease.task)).await.unwrap().unwrap();
    assert_eq!(claimed.steps, journal);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_pass_in_process() {
    let bus: Arc<dyn Requests> = Arc::new(InprocBus::default());
    let remote = crate::support::client(bus.clone(), unhurried());
    large_bodies_pass(bus, remote).await;
}

#[tokio::test]
async fn answers_that_are_too_large_together_are_asked_for_one_by_one() {
    let platform = Platform::start().await;
    let network = Network::around(platform.requests.clone());
    network.faults.refuse_batches.store(true, Ordering::SeqCst);
    let remote = crate::support::client(network.clone(), ClientOptions::default());
    let mut tasks = Vec::new();
    for _ in 0..5 {
        tasks.push(platform.store.submit(platform.new_task()).await.unwrap().task.id);
    }
    let namespace = Namespace::default();
    let read = join_all(tasks.iter().map(|task| remote.task(&namespace, *task))).await;
    assert!(read.iter().zip(&tasks).all(|(read, task)| read.as_ref().unwrap().as_ref().unwrap().id == *task));
    assert_eq!((network.sent_to("state.batch"), network.sent_to("state.task")), (1, 5));
    // What a claim in the batch gave is a lease that nobody knows; it runs out.
    let claimed = join_all(tasks.iter().map(|task| remote.claim(platform.claim(*task)))).await;
    assert!(claimed.iter().all(|claimed| matches!(claimed, Err(StateError::Unavailable(_)))), "{claimed:?}");
    assert_eq!(network.sent_to("state.claim"), 0);
}
