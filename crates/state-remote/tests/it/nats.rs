//! The same over a real NATS, with client and server as two processes have them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bus_nats::{NatsBus, NatsOptions};
use domain::Namespace;
use state::State;
use state_remote::{ClientOptions, ServerOptions};

use crate::support::{Platform, client, model_step, until};

fn options(url: &str) -> NatsOptions {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("sr{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    NatsOptions { servers: vec![url.to_owned()], prefix, name: "test".to_owned(), ..NatsOptions::default() }
}

async fn connected(options: NatsOptions) -> Arc<NatsBus> {
    let bus = NatsBus::connect(options).await.unwrap();
    until("the connection", async || bus.ready().await.is_ok()).await;
    Arc::new(bus)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_pass_over_nats() {
    let nats = testkit::servers::nats().await;
    let options = options(&nats.url());
    let (ours, theirs) = (connected(options.clone()).await, connected(options).await);
    let remote = client(ours, crate::large::unhurried());
    crate::large::large_bodies_pass(theirs, remote).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_does_not_notice_that_servers_are_replaced() {
    let nats = testkit::servers::nats().await;
    let options = options(&nats.url());
    let (ours, theirs) = (connected(options.clone()).await, connected(options).await);
    let mut platform = Platform::start_on(theirs, ServerOptions::default()).await;
    // A request that is handed to a server in the moment in which it leaves costs its time-out.
    let remote = client(ours, ClientOptions { write_timeout: Duration::from_secs(2), ..ClientOptions::default() });
    let lease = platform.running().await;
    let now = platform.now();
    let worker = tokio::spawn(async move {
        for n in 1..=300 {
            remote.append(lease, vec![model_step(n, now, "a step")]).await.unwrap();
        }
    });
    for _ in 0..5 {
        let serving = platform.serving.take().unwrap();
        assert!(serving.stop(Duration::from_secs(20)).await);
        platform.serve(ServerOptions::default()).await;
    }
    worker.await.unwrap();
    let journal = platform.store.journal(&Namespace::default(), lease.task, 0, 1_000).await.unwrap();
    assert_eq!(journal.len(), 301);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_restarts_costs_time_and_no_step() {
    let mut nats = testkit::servers::own::Nats::start().await;
    let options = options(&nats.url());
    let (ours, theirs) = (connected(options.clone()).await, connected(options).await);
    let platform = Platform::start_on(theirs, ServerOptions::default()).await;
    let remote = client(ours, ClientOptions { patience: Duration::from_secs(20), ..ClientOptions::default() });
    let lease = platform.running().await;
    remote.append(lease, vec![model_step(1, platform.now(), "before")]).await.unwrap();
    nats.kill();
    let step = model_step(2, platform.now(), "meanwhile");
    let append = tokio::spawn(async move { remote.append(lease, vec![step]).await });
    nats.start_again().await;
    append.await.unwrap().unwrap();
    let journal = platform.store.journal(&Namespace::default(), lease.task, 0, 10).await.unwrap();
    assert_eq!(journal.len(), 3);
}
