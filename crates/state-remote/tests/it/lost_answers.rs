//! An answer is lost: what is repeated changes nothing, and what is not is told to the caller.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::{Failure, FailureKind, Namespace, TaskStatus, Usage, Wait, WaitFor};
use serde_json::json;
use state::{AttemptFailed, Finish, Outcome, Park, PutCondition, Signal, State, StateError};
use state_remote::ClientOptions;

use crate::network::Network;
use crate::script;
use crate::support::{Platform, client, model_step, until};

/// What is sent once, whatever becomes of its answer.
const NEVER_REPEATED: [&str; 13] = [
    "claim",
    "settle",
    "put_artifact",
    "retry",
    "cancel",
    "due",
    "reap",
    "expire",
    "purge",
    "put_value",
    "delete_value",
    "ping",
    "signal",
];

#[tokio::test]
async fn every_call_is_repeated_as_the_table_says() {
    let platform = Platform::start().await;
    let network = Network::losing_first_answers(platform.requests.clone());
    let remote = client(network.clone(), ClientOptions::default());
    let made = script::play(&*remote, platform.now()).await;
    let mut calls: BTreeMap<&str, usize> = BTreeMap::new();
    for (method, _) in &made {
        *calls.entry(method).or_default() += 1;
    }
    assert_eq!(calls.len(), 36, "all methods but `close`");
    for (method, sent) in network.sent() {
        let method = method.strip_prefix("state.").unwrap();
        let made = calls[method];
        match method {
            // One of the two has a key.
            "signal" => assert_eq!(sent, 3),
            // The same calls are made several times, and only the first answer of the same request is lost.
            "claim" | "cancel" => assert_eq!(sent, made, "{method}"),
            _ if NEVER_REPEATED.contains(&method) => assert_eq!(sent, made, "{method}"),
            _ => assert_eq!(sent, 2 * made, "{method}"),
        }
    }
    let unavailable = made
        .iter()
        .filter(|(method, error)| NEVER_REPEATED.contains(method) && matches!(error, Some(StateError::Unavailable(_))));
    assert!(unavailable.count() >= 13, "what is not repeated is told");
}

#[tokio::test]
async fn a_submission_whose_answer_was_lost_is_recorded_once_and_told_as_created() {
    let platform = Platform::start().await;
    let network = Network::losing_first_answers(platform.requests.clone());
    let remote = client(network.clone(), ClientOptions::default());
    let task = platform.new_task();
    assert!(remote.submit(task.clone()).await.unwrap().created);
    assert_eq!(network.sent_to("state.submit"), 2);
    assert!(!remote.submit(task).await.unwrap().created, "another call of the same task made nothing");
    assert_eq!(platform.store.stats(None).await.unwrap().tasks[&TaskStatus::Queued], 1);
}

#[tokio::test]
async fn a_step_whose_answer_was_lost_is_in_the_journal_once() {
    let platform = Platform::start().await;
    let remote = client(Network::losing_first_answers(platform.requests.clone()), ClientOptions::default());
    let lease = platform.running().await;
    remote.append(lease, vec![model_step(1, platform.now(), "once")]).await.unwrap();
    remote.append(lease, vec![model_step(2, platform.now(), "twice")]).await.unwrap();
    let journal = platform.store.journal(&Namespace::default(), lease.task, 0, 10).await.unwrap();
    assert_eq!(journal.len(), 3);
}

#[tokio::test]
async fn an_end_whose_answer_was_lost_is_one_end() {
    let platform = Platform::start().await;
    let remote = client(Network::losing_first_answers(platform.requests.clone()), ClientOptions::default());
    let lease = platform.running().await;
    let finish = Finish {
        steps: vec![model_step(1, platform.now(), "done")],
        outcome: Outcome::Succeeded,
        usage: Usage::tokens(1, 2),
        messages: Vec::new(),
        at: platform.now(),
    };
    remote.finish(lease, finish).await.unwrap();
    assert_eq!(platform.status(lease.task).await, TaskStatus::Succeeded);
    let journal = platform.store.journal(&Namespace::default(), lease.task, 0, 10).await.unwrap();
    assert_eq!(journal.len(), 2);
}

#[tokio::test]
async fn what_gave_a_task_away_and_lost_its_answer_is_told_that_the_lease_is_gone() {
    let platform = Platform::start().await;
    let remote = client(Network::losing_first_answers(platform.requests.clone()), ClientOptions::default());
    let now = platform.now();

    let lease = platform.running().await;
    assert!(matches!(remote.release(lease).await, Err(StateError::LeaseLost { .. })));
    assert_eq!(platform.status(lease.task).await, TaskStatus::Queued);

    let lease = platform.running().await;
    let failure = Failure::new(FailureKind::ModelTimeout, "silence");
    let failed = AttemptFailed { seq: 1, at: now, failure, retry_at: now };
    assert!(matches!(remote.fail_attempt(lease, failed).await, Err(StateError::LeaseLost { .. })));
    let task = platform.store.task(&Namespace::default(), lease.task).await.unwrap().unwrap();
    assert_eq!((task.status, task.attempt), (TaskStatus::Queued, 1), "one attempt is counted");

    let lease = platform.running().await;
    let on = WaitFor::Timer { at: now + Duration::from_secs(60) };
    let waits = vec![Wait { call_id: "c".to_owned(), on, expires_at: None, default: None }];
    let park = Park { steps: Vec::new(), seq: 1, at: now, waits, children: Vec::new() };
    assert!(matches!(remote.park(lease, park).await, Err(StateError::LeaseLost { .. })));
    assert_eq!(platform.status(lease.task).await, TaskStatus::Waiting);
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_not_asked_again() {
    let platform = Platform::start().await;
    let network = Network::losing_first_answers(platform.requests.clone());
    let remote = client(network.clone(), ClientOptions::default());
    let task = platform.store.submit(platform.new_task()).await.unwrap().task.id;
    assert!(matches!(remote.claim(platform.claim(task)).await, Err(StateError::Unavailable(_))));
    assert_eq!(network.sent_to("state.claim"), 1);
    let is_running = async || platform.status(task).await == TaskStatus::Running;
    until("the claim is in the record, where its lease runs out", is_running).await;
}

#[tokio::test]
async fn a_signal_is_repeated_only_with_a_key() {
    let platform = Platform::start().await;
    let network = Network::losing_first_answers(platform.requests.clone());
    let remote = client(network.clone(), ClientOptions::default());
    let task = platform.store.submit(platform.new_task()).await.unwrap().task.id;
    let signal = |key: Option<&str>| Signal {
        name: "go".to_owned(),
        value: json!(1),
        from: None,
        key: key.map(str::to_owned),
        at: platform.now(),
    };
    remote.signal(&Namespace::default(), task, signal(Some("k"))).await.unwrap();
    assert_eq!(network.sent_to("state.signal"), 2);
    let without = remote.signal(&Namespace::default(), task, signal(None)).await;
    assert!(matches!(without, Err(StateError::Unavailable(_))));
    assert_eq!(network.sent_to("state.signal"), 3);
}

#[tokio::test]
async fn a_value_whose_answer_was_lost_is_put_once() {
    let platform = Platform::start().await;
    let remote = client(Network::losing_first_answers(platform.requests.clone()), ClientOptions::default());
    let (space, now) = (Namespace::default(), platform.now());
    let put = remote.put_value(&space, "s", "k", json!(1), None, PutCondition::Always, now).await;
    assert!(matches!(put, Err(StateError::Unavailable(_))));
    assert_eq!(platform.store.value(&space, "s", "k", now).await.unwrap().unwrap().version, 1);
}
