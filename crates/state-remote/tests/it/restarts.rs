//! Servers go and come back.

use std::sync::Arc;
use std::time::Duration;

use bus::InprocBus;
use domain::Namespace;
use state::{State, StateError};
use state_remote::{ClientOptions, ServerOptions};
use tokio::time::Instant;

use crate::network::Network;
use crate::support::{Platform, client, until};

#[tokio::test]
async fn without_a_server_a_call_says_so_after_the_patience_and_a_ping_at_once() {
    let platform = Platform::unserved(Arc::new(InprocBus::default()));
    let network = Network::around(platform.requests.clone());
    let options = ClientOptions { patience: Duration::from_millis(300), ..ClientOptions::default() };
    let remote = client(network.clone(), options);
    let started = Instant::now();
    let error = remote.task(&Namespace::default(), platform.new_task().id).await.unwrap_err();
    assert!(matches!(error, StateError::Unavailable(_)));
    assert!(error.to_string().contains("no state-manager answers state.task"), "{error}");
    assert!(network.sent_to("state.task") > 1);
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(remote.ping().await.unwrap_err().is_transient());
    assert_eq!(network.sent_to("state.ping"), 1);
}

#[tokio::test]
async fn a_server_that_comes_back_in_time_is_not_missed_even_by_a_claim() {
    let mut platform = Platform::unserved(Arc::new(InprocBus::default()));
    let network = Network::around(platform.requests.clone());
    let options = ClientOptions { patience: Duration::from_secs(20), ..ClientOptions::default() };
    let remote = client(network.clone(), options);
    let task = platform.store.submit(platform.new_task()).await.unwrap().task.id;
    let claim = platform.claim(task);
    let claimed = tokio::spawn(async move { remote.claim(claim).await });
    until("the claim was tried in vain", async || network.sent_to("state.claim") >= 2).await;
    platform.serve(ServerOptions::default()).await;
    assert!(claimed.await.unwrap().unwrap().is_some());
}

#[tokio::test]
async fn a_server_that_stops_answers_what_is_under_way() {
    let mut platform = Platform::start().await;
    let network = Network::around(platform.requests.clone());
    let remote = client(network.clone(), ClientOptions::default());
    let lease = platform.running().await;
    let calls = (1..=50).map(|n| {
        let step = crate::support::model_step(n, platform.now(), "x".repeat(10_000));
        let remote = remote.clone();
        tokio::spawn(async move { remote.append(lease, vec![step]).await })
    });
    let calls: Vec<_> = calls.collect();
    let sent = || network.sent_to("state.append") + network.sent_to("state.batch");
    until("calls are under way", async || sent() > 0).await;
    let serving = platform.serving.take().unwrap();
    platform.serve(ServerOptions::default()).await;
    assert!(serving.stop(Duration::from_secs(20)).await);
    for call in calls {
        // Steps of one task that are under way together may come out of order; none is lost silently.
        if let Err(error) = call.await.unwrap() {
            assert!(!error.is_transient(), "{error}");
        }
    }
}

#[tokio::test]
async fn closing_a_client_leaves_the_record_open() {
    let platform = Platform::start().await;
    let (first, second) = (platform.client(), platform.client());
    first.close().await;
    assert!(matches!(first.ping().await, Err(StateError::Closed)));
    second.ping().await.unwrap();
}

#[tokio::test]
async fn a_server_whose_store_is_closed_is_unavailable_and_not_closed() {
    let platform = Platform::start().await;
    let options = ClientOptions { patience: Duration::from_millis(100), ..ClientOptions::default() };
    let remote = client(platform.requests.clone(), options);
    platform.store.close().await;
    let error = remote.task(&Namespace::default(), platform.new_task().id).await.unwrap_err();
    assert!(matches!(error, StateError::Unavailable(_)), "{error:?}");
}
