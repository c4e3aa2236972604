//! Time runs out: before a call begins, while it is under way, and while it waits for its turn.

use std::sync::Arc;
use std::time::Duration;

use bus::{InprocBus, Requests};
use bytes::Bytes;
use domain::{Namespace, TaskStatus};
use state::{State, StateError};
use state_remote::{ClientOptions, ServerOptions, serve};
use tokio::time::Instant;

use crate::network::Network;
use crate::support::{PATIENCE, Platform, client, impatient, until};

/// A client before a server whose store is a client of another server: the network between them makes that store slow.
async fn behind_a_slow_store(platform: &Platform, options: ServerOptions) -> (Arc<Network>, Arc<dyn Requests>) {
    let slow = Network::around(platform.requests.clone());
    let front: Arc<dyn Requests> = Arc::new(InprocBus::default());
    let patient = ClientOptions { read_timeout: PATIENCE, write_timeout: PATIENCE, ..ClientOptions::default() };
    let store = client(slow.clone(), patient);
    let serving = serve(&*front, store, options).await.unwrap();
    // Served to the end of the process.
    std::mem::forget(serving);
    (slow, front)
}

#[tokio::test]
async fn a_call_whose_time_has_passed_is_not_begun() {
    let platform = Platform::start().await;
    let frame = Bytes::from_static(b"1 {\"budget_ms\":0}\n{}");
    let answer = platform.requests.request("state.ping", frame, PATIENCE).await.unwrap();
    let text = String::from_utf8(answer.to_vec()).unwrap();
    assert!(text.starts_with("1 refused\n{\"reason\":\"expired\""), "{text}");
}

#[tokio::test]
async fn a_claim_that_is_granted_too_late_is_given_back() {
    let platform = Platform::start().await;
    let (slow, front) = behind_a_slow_store(&platform, ServerOptions::default()).await;
    let remote = client(front, impatient(Duration::from_millis(50)));
    let task = platform.store.submit(platform.new_task()).await.unwrap().task.id;
    slow.hold("state.claim");
    assert!(matches!(remote.claim(platform.claim(task)).await, Err(StateError::Unavailable(_))));
    until("the claim is granted", async || platform.status(task).await == TaskStatus::Running).await;
    slow.let_through();
    until("the claim is given back", async || platform.status(task).await == TaskStatus::Queued).await;
    assert!(platform.store.claim(platform.claim(task)).await.unwrap().is_some(), "somebody else can have it at once");
}

#[tokio::test]
async fn the_server_stops_waiting_with_its_caller_and_is_free_again() {
    let platform = Platform::start().await;
    let options = ServerOptions { max_in_flight: 1, ..ServerOptions::default() };
    let (slow, front) = behind_a_slow_store(&platform, options).await;
    let remote = client(front, impatient(Duration::from_millis(50)));
    slow.hold("state.stats");
    assert!(matches!(remote.stats(None).await, Err(StateError::Unavailable(_))));
    let space = Namespace::default();
    let again = async || remote.task(&space, platform.new_task().id).await.is_ok();
    until("the only place is free again", again).await;
}

#[tokio::test]
async fn too_many_calls_are_refused_at_once_and_renewals_and_pings_are_not() {
    let platform = Platform::start().await;
    let options = ServerOptions { max_in_flight: 1, ..ServerOptions::default() };
    let (slow, front) = behind_a_slow_store(&platform, options).await;
    let patient = client(front.clone(), ClientOptions::default());
    let hasty = client(front, impatient(Duration::from_secs(5)));
    slow.hold("state.stats");
    let held = tokio::spawn({
        let patient = patient.clone();
        async move { patient.stats(None).await }
    });
    until("the place is taken", async || slow.sent_to("state.stats") == 1).await;
    let space = Namespace::default();
    let task = platform.new_task().id;
    let started = Instant::now();
    let refused = hasty.task(&space, task).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(4));
    assert!(refused.to_string().contains("too many calls"), "{refused}");
    hasty.ping().await.unwrap();
    hasty.renew(platform.claim(task).worker, Vec::new()).await.unwrap();
    let waits = tokio::spawn(async move { patient.task(&space, task).await });
    slow.let_through();
    held.await.unwrap().unwrap();
    assert_eq!(waits.await.unwrap().unwrap(), None, "a patient client is served when there is a place");
}

#[tokio::test]
async fn a_call_that_waits_for_its_turn_in_the_client_gives_up_in_time() {
    let platform = Platform::start().await;
    let network = Network::around(platform.requests.clone());
    let options =
        ClientOptions { max_in_flight: 1, read_timeout: Duration::from_millis(300), ..ClientOptions::default() };
    let remote = client(network.clone(), options);
    network.hold("state.stats");
    let held = tokio::spawn({
        let remote = remote.clone();
        async move { remote.stats(None).await }
    });
    until("the place is taken", async || network.sent_to("state.stats") == 1).await;
    let refused = remote.task(&Namespace::default(), platform.new_task().id).await;
    network.let_through();
    held.await.unwrap().unwrap();
    if let Err(error) = refused {
        assert!(error.to_string().contains("too many calls"), "{error}");
        assert_eq!(network.sent_to("state.task"), 0);
    }
}
