//! Requests and answers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bus::{BusError, RequestHandler, Requests, contract};
use bus_nats::NatsOptions;
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::support::{PATIENCE, connected, options, pair, stranger, until, within};

/// Answers with what it was asked.
struct Echo;

#[async_trait]
impl RequestHandler for Echo {
    async fn handle(&self, body: Bytes) -> Bytes {
        body
    }
}

/// Answers when it is allowed to.
struct Gate(Semaphore);

#[async_trait]
impl RequestHandler for Gate {
    async fn handle(&self, body: Bytes) -> Bytes {
        self.0.acquire().await.expect("it is never closed").forget();
        body
    }
}

/// Answers with as many bytes as it is asked for.
struct Large;

#[async_trait]
impl RequestHandler for Large {
    async fn handle(&self, body: Bytes) -> Bytes {
        let size = std::str::from_utf8(&body).ok().and_then(|text| text.parse().ok());
        Bytes::from(vec![7; size.expect("a number")])
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_keep_their_contract() {
    let url = testkit::servers::nats().await.url();
    contract::requests(|| async { Arc::new(connected(options(&url)).await) as Arc<dyn Requests> }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_is_asked_as_soon_as_it_serves() {
    let (server, client) = pair(&testkit::servers::nats().await.url()).await;
    for _ in 0..20 {
        let serving = server.serve("state.claim", Arc::new(Echo)).await.unwrap();
        let answer = client.request("state.claim", Bytes::from_static(b"body"), PATIENCE).await.unwrap();
        assert_eq!(answer, "body");
        drop(serving);
        until("the end of serving", async || {
            let asked = client.request("state.claim", Bytes::new(), Duration::from_millis(200)).await;
            matches!(asked, Err(BusError::NoResponder { .. }))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_any_size_are_carried_both_ways() {
    let (server, client) = pair(&testkit::servers::nats().await.url()).await;
    let _serving = server.serve("carry.echo", Arc::new(Echo)).await.unwrap();
    let message = 1 << 20;
    let sizes = [message - 1025, message - 1024, message - 1023, message - 1, message, message + 1];
    for size in sizes.into_iter().chain([5 << 20, 40 << 20, 64 << 20]) {
        let mut body = (0..251).collect::<Vec<u8>>().repeat(size / 251 + 1);
        body.truncate(size);
        let body = Bytes::from(body);
        let answer = within("a large answer", client.request("carry.echo", body.clone(), PATIENCE)).await.unwrap();
        assert!(answer == body, "{size} bytes came back as {}", answer.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_above_the_limit_is_refused_either_way() {
    let (server, client) = pair(&testkit::servers::nats().await.url()).await;
    let _serving = server.serve("carry.large", Arc::new(Large)).await.unwrap();
    let limit = 64 << 20;
    let asked = client.request("carry.large", Bytes::from(vec![0; limit + 1]), PATIENCE).await;
    assert!(matches!(asked, Err(BusError::TooLarge { bytes, .. }) if bytes == limit + 1), "{asked:?}");
    let answered = client.request("carry.large", Bytes::from((limit + 1).to_string()), PATIENCE).await;
    assert!(matches!(answered, Err(BusError::TooLarge { bytes, .. }) if bytes == limit + 1), "{answered:?}");
    assert_eq!(client.request("carry.large", Bytes::from("3"), PATIENCE).await.unwrap(), [7_u8; 3].as_slice());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_bodies_at_once_all_arrive() {
    let options = NatsOptions { max_large_bytes: 20 << 20, ..options(&testkit::servers::nats().await.url()) };
    let (server, client) = (connected(options.clone()).await, connected(options).await);
    let _serving = server.serve("carry.large", Arc::new(Echo)).await.unwrap();
    let asked = futures::future::join_all((0..12_u8).map(|number| {
        let client = &client;
        async move {
            let body = Bytes::from(vec![number; 5 << 20]);
            loop {
                match client.request("carry.large", body.clone(), PATIENCE).await {
                    Ok(answer) => return assert!(answer == body),
                    Err(BusError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }));
    within("all answers", asked).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_too_many_is_refused_at_once() {
    let options = NatsOptions { concurrent_requests: 2, ..options(&testkit::servers::nats().await.url()) };
    let (server, client) = (connected(options.clone()).await, connected(options).await);
    let gate = Arc::new(Gate(Semaphore::new(0)));
    let _serving = server.serve("slow.wait", gate.clone()).await.unwrap();
    let ask = || client.request("slow.wait", Bytes::new(), PATIENCE);
    let (first, second, third) = within("the refusal", async {
        let (mut first, mut second) = (Box::pin(ask()), Box::pin(ask()));
        tokio::select! {
            _ = &mut first => panic!("not yet"),
            _ = &mut second => panic!("not yet"),
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
        let third = ask().await;
        gate.0.add_permits(2);
        (first.await, second.await, third)
    })
    .await;
    assert!(first.is_ok() && second.is_ok());
    assert!(matches!(&third, Err(BusError::Unavailable(why)) if why.contains("overloaded")), "{third:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_is_answered_after_serving_ended() {
    let (server, client) = pair(&testkit::servers::nats().await.url()).await;
    let gate = Arc::new(Gate(Semaphore::new(0)));
    let serving = server.serve("slow.wait", gate.clone()).await.unwrap();
    let mut asked = Box::pin(client.request("slow.wait", Bytes::from_static(b"late"), PATIENCE));
    tokio::select! {
        _ = &mut asked => panic!("not yet"),
        () = tokio::time::sleep(Duration::from_millis(100)) => {}
    }
    drop(serving);
    until("the end of serving", async || {
        let asked = client.request("slow.wait", Bytes::new(), Duration::from_millis(200)).await;
        matches!(asked, Err(BusError::NoResponder { .. }))
    })
    .await;
    gate.0.add_permits(1);
    assert_eq!(within("the answer", asked).await.unwrap(), "late");
}

/// Servers come and go under load; each request is answered, at the first attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_when_a_server_leaves() {
    let (server, client) = pair(&testkit::servers::nats().await.url()).await;
    let _stays = server.serve("state.claim", Arc::new(Echo)).await.unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let changing = async {
        for _ in 0..50 {
            let serving = server.serve("state.claim", Arc::new(Echo)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
            drop(serving);
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
    };
    let asking = futures::future::join_all((0..16).map(|_| async {
        let mut answered = 0_u32;
        while !done.load(std::sync::atomic::Ordering::SeqCst) {
            client.request("state.claim", Bytes::from_static(b"body"), Duration::from_secs(5)).await.unwrap();
            answered += 1;
        }
        answered
    }));
    let ((), answered) = within("all answers", futures::future::join(changing, asking)).await;
    assert!(answered.iter().sum::<u32>() > 500, "{answered:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_discovered_with_their_endpoints_and_statistics() {
    let url = testkit::servers::nats().await.url();
    let bus = connected(options(&url)).await;
    // A service name of its own: discovery knows no prefixes.
    let word = format!("found{}", std::process::id());
    let (claim, finish) = (format!("{word}.claim"), format!("{word}.finish"));
    let serving = (bus.serve(&claim, Arc::new(Echo)).await.unwrap(), bus.serve(&finish, Arc::new(Echo)).await.unwrap());
    bus.request(&claim, Bytes::new(), PATIENCE).await.unwrap();
    let nats = stranger(&url).await;
    let info = nats.request(format!("$SRV.INFO.{word}"), Bytes::new()).await.unwrap();
    let info = String::from_utf8_lossy(&info.payload).into_owned();
    assert!(info.contains(&format!("{word}-claim")) && info.contains(&format!("{word}-finish")), "{info}");
    let stats = nats.request(format!("$SRV.STATS.{word}"), Bytes::new()).await.unwrap();
    let stats = String::from_utf8_lossy(&stats.payload).into_owned();
    assert!(stats.contains("\"num_requests\":1"), "{stats}");
    drop(serving);
    until("the end of the service", async || nats.request(format!("$SRV.PING.{word}"), Bytes::new()).await.is_err())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_references_and_answers_harm_nobody() {
    let url = testkit::servers::nats().await.url();
    let options = options(&url);
    let bus = connected(options.clone()).await;
    let _serving = bus.serve("state.claim", Arc::new(Echo)).await.unwrap();
    let nats = stranger(&url).await;
    let subject = format!("{}.requests.state.claim", options.prefix);
    for (reference, size) in [
        ("nobody.there", "5"),
        ("nobody.there", "99999999999999"),
        ("not a subject", "5"),
        ("x", "-1"),
        ("", "5"),
        (">", "3"),
    ] {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Agentrunner-Body", reference);
        headers.insert("Agentrunner-Body-Size", size);
        let answer =
            within("a refusal", nats.request_with_headers(subject.clone(), headers, Bytes::new())).await.unwrap();
        assert!(answer.headers.is_some_and(|headers| headers.get("Nats-Service-Error-Code").is_some()), "{reference}");
    }
    // A request without a place to answer to.
    nats.publish(subject, Bytes::from_static(b"\xff")).await.unwrap();
    assert_eq!(bus.request("state.claim", Bytes::from("well"), PATIENCE).await.unwrap(), "well");
}

/// `cargo nextest run -p bus-nats --run-ignored only --no-capture how_fast`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn how_fast_requests_are() {
    let (server, client) = pair(&testkit::servers::nats().await.url()).await;
    let _serving = server.serve("state.claim", Arc::new(Echo)).await.unwrap();
    for flights in [1, 64] {
        let begin = Instant::now();
        let mut took: Vec<Duration> = futures::stream::iter(0..20_000)
            .map(|_| async {
                let begin = Instant::now();
                client.request("state.claim", Bytes::from_static(&[b'x'; 200]), PATIENCE).await.unwrap();
                begin.elapsed()
            })
            .buffer_unordered(flights)
            .collect()
            .await;
        let rate = took.len() as f64 / begin.elapsed().as_secs_f64();
        took.sort();
        println!(
            "{flights} in flight: {rate:.0} requests/s, p50 {:?}, p99 {:?}",
            took[took.len() / 2],
            took[took.len() * 99 / 100]
        );
    }
}

/// Answers after longer than silence is borne.
struct Slow;

#[async_trait]
impl RequestHandler for Slow {
    async fn handle(&self, body: Bytes) -> Bytes {
        tokio::time::sleep(Duration::from_secs(3)).await;
        body
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_slow_is_waited_for_and_who_is_dead_is_not() {
    let url = testkit::servers::nats().await.url();
    let options = options(&url);
    let bus = connected(options.clone()).await;
    let _serving = bus.serve("state.slow", Arc::new(Slow)).await.unwrap();
    let dead = stranger(&url).await;
    // It takes requests and dies before it answers.
    let _taken = dead.subscribe(format!("{}.requests.state.dead", options.prefix)).await.unwrap();
    until("the subscription", async || {
        let asked = bus.request("state.dead", Bytes::new(), Duration::from_millis(100)).await;
        !matches!(asked, Err(BusError::NoResponder { .. }))
    })
    .await;
    let slow = bus.request("state.slow", Bytes::from_static(b"body"), PATIENCE);
    let lost = within("the end of patience", bus.request("state.dead", Bytes::new(), Duration::from_secs(600)));
    let (slow, lost) = tokio::join!(slow, lost);
    assert_eq!(slow.unwrap(), "body");
    assert!(matches!(lost, Err(BusError::Unavailable(_))), "{lost:?}");
}
