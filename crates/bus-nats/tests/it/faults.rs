//! The server goes away, comes back, forgets everything, or is silent.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bus::{BusError, Events, Received, RequestHandler, Requests};
use bus_nats::NatsBus;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use testkit::servers::own::Nats;
use tokio::time::Instant;

use crate::support::{PATIENCE, created, delta, finished, hear, options, pair, task, until, within};

struct Echo;

#[async_trait]
impl RequestHandler for Echo {
    async fn handle(&self, body: Bytes) -> Bytes {
        body
    }
}

async fn missed(stream: &mut BoxStream<'static, Received>) {
    within("the news that something may be missing", async {
        while !matches!(stream.next().await, Some(Received::Missed)) {}
    })
    .await;
}

async fn ready(bus: &NatsBus) {
    until("the connection", async || bus.ready().await.is_ok()).await;
}

/// Publishes more than the queue holds; it must not take the time that waiting for anything would.
fn publish_many(bus: &NatsBus) {
    let begin = Instant::now();
    for number in 0..20_000 {
        bus.publish(created(number));
    }
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_costs_time_only() {
    let mut nats = Nats::start().await;
    let (here, there) = pair(&nats.url()).await;
    let _serving = here.serve("state.claim", Arc::new(Echo)).await.unwrap();
    let mut ends = there.subscribe_ends().await.unwrap();
    let mut one = there.subscribe_task(task(1)).await.unwrap();

    nats.kill();
    until("the loss is noticed", async || there.ready().await.is_err()).await;
    publish_many(&here);
    let begin = Instant::now();
    let refused = there.request("state.claim", Bytes::new(), Duration::from_millis(300)).await;
    assert!(matches!(refused, Err(BusError::Unavailable(_))), "{refused:?}");
    assert!(begin.elapsed() < Duration::from_secs(2));
    let meanwhile = there.subscribe_task(task(2)).await.expect("it is made up for");
    assert!(meanwhile.backlog.is_empty());
    let waiting = there.request("state.claim", Bytes::from_static(b"patient"), PATIENCE);

    nats.start_again().await;
    // Its server may come back after whoever asks.
    match within("an answer", waiting).await {
        Ok(answer) => assert_eq!(answer, "patient"),
        Err(error) => assert!(matches!(error, BusError::NoResponder { .. }), "{error}"),
    }
    missed(&mut ends).await;
    missed(&mut one.live).await;
    let mut meanwhile = meanwhile.live;
    missed(&mut meanwhile).await;
    ready(&here).await;
    ready(&there).await;
    assert_eq!(there.request("state.claim", Bytes::from_static(b"again"), PATIENCE).await.unwrap(), "again");
    here.publish(finished(1));
    within("an event after the gap", async {
        while !matches!(ends.next().await, Some(Received::Event(event)) if *event == finished(1)) {}
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_the_lost_connection_took_along_is_no_time_out() {
    struct Never;
    #[async_trait]
    impl RequestHandler for Never {
        async fn handle(&self, _: Bytes) -> Bytes {
            std::future::pending().await
        }
    }
    let mut nats = Nats::start().await;
    let (here, there) = pair(&nats.url()).await;
    let _serving = here.serve("state.claim", Arc::new(Never)).await.unwrap();
    let mut asked = Box::pin(there.request("state.claim", Bytes::new(), Duration::from_secs(600)));
    tokio::select! {
        _ = &mut asked => panic!("not yet"),
        () = tokio::time::sleep(Duration::from_millis(100)) => {}
    }
    nats.kill();
    let lost = within("the error", asked).await;
    assert!(matches!(lost, Err(BusError::Unavailable(_))), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_server_gets_its_stream_again() {
    let mut nats = Nats::start().await;
    let (here, there) = pair(&nats.url()).await;
    let speak_and_read = async || {
        until("a backlog", async || {
            here.publish(delta(1, 1));
            there.subscribe_task(task(1)).await.unwrap().backlog.len() == 1
        })
        .await;
    };
    speak_and_read().await;
    nats.wipe().await;
    ready(&here).await;
    ready(&there).await;
    speak_and_read().await;
    let client = crate::support::stranger(&nats.url()).await;
    let context = async_nats::jetstream::new(client);
    let streams: Vec<String> = context.stream_names().map(Result::unwrap).collect().await;
    context.delete_stream(&streams[0]).await.unwrap();
    speak_and_read().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_starts_without_its_server() {
    let mut nats = Nats::start().await;
    let options = options(&nats.url());
    nats.kill();
    let bus = within("the start", NatsBus::connect(options.clone())).await.unwrap();
    let mut heard = within("a subscription", bus.subscribe()).await.unwrap();
    let _serving = within("a server", bus.serve("state.claim", Arc::new(Echo))).await.unwrap();
    publish_many(&bus);
    until("the reason", async || bus.ready().await.is_err_and(|why| why.contains("IO error"))).await;
    nats.start_again().await;
    ready(&bus).await;
    missed(&mut heard).await;
    bus.publish(finished(1));
    assert_eq!(hear(&mut heard).await, finished(1));
    assert_eq!(bus.request("state.claim", Bytes::from_static(b"body"), PATIENCE).await.unwrap(), "body");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_holds_nobody_up() {
    let mut nats = Nats::start().await;
    let (here, there) = pair(&nats.url()).await;
    let _serving = here.serve("state.claim", Arc::new(Echo)).await.unwrap();
    nats.pause();
    for _ in 0..5 {
        publish_many(&here);
    }
    let asked = futures::future::join_all(
        (0..2000).map(|_| there.request("state.claim", Bytes::from(vec![0; 100_000]), Duration::from_millis(500))),
    );
    let begin = Instant::now();
    assert!(asked.await.iter().all(Result::is_err));
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert!(there.ready().await.is_err());
    let subscribed = within("a subscription or none", there.subscribe_task(task(1))).await;
    drop(subscribed);
    nats.resume();
    ready(&here).await;
    ready(&there).await;
    until("an answer", async || there.request("state.claim", Bytes::new(), PATIENCE).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_are_a_reason_and_nothing_else() {
    let nats = testkit::servers::nats().await;
    let options = bus_nats::NatsOptions {
        user: Some("testkit".to_owned()),
        password: Some("wrong".to_owned().into()),
        ..options(&nats.url())
    };
    let bus = NatsBus::connect(options).await.unwrap();
    until("the reason", async || bus.ready().await.is_err_and(|why| why.contains("authorization violation"))).await;
}
