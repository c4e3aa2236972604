//! Buses of tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bus::Received;
use bus_nats::{NatsBus, NatsOptions};
use domain::{AgentName, Delta, Event, EventBody, Namespace, Step, StepBody, TaskId, TaskStatus, Timestamp};
use futures::StreamExt as _;
use futures::stream::BoxStream;

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Options with a prefix that no other test has.
pub(crate) fn options(url: &str) -> NatsOptions {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    NatsOptions { servers: vec![url.to_owned()], prefix, name: "test".to_owned(), ..NatsOptions::default() }
}

/// A bus that is connected.
pub(crate) async fn connected(options: NatsOptions) -> NatsBus {
    let bus = NatsBus::connect(options).await.expect("valid options");
    until("the connection", async || bus.ready().await.is_ok()).await;
    bus
}

/// Two buses of one platform, as two processes have them.
pub(crate) async fn pair(url: &str) -> (NatsBus, NatsBus) {
    let options = options(url);
    (connected(options.clone()).await, connected(options).await)
}

/// A client that knows nothing of our bus.
pub(crate) async fn stranger(url: &str) -> async_nats::Client {
    let user = testkit::servers::USER.to_owned();
    async_nats::ConnectOptions::with_user_and_password(user.clone(), user).connect(url).await.expect("a connection")
}

/// Waits until `holds`.
pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    within(what, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Waits for what must happen.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not happen in time"))
}

/// The next event; there is none to be missed.
pub(crate) async fn hear(stream: &mut BoxStream<'static, Received>) -> Event {
    match within("an event", stream.next()).await.expect("the stream goes on") {
        Received::Event(event) => (*event).clone(),
        Received::Missed => panic!("nothing was to be missed"),
    }
}

pub(crate) fn task(number: u128) -> TaskId {
    TaskId(uuid::Uuid::from_u128(number))
}

fn event(body: EventBody) -> Event {
    Event { namespace: Namespace::default(), body }
}

pub(crate) fn created(number: u128) -> Event {
    event(EventBody::TaskCreated { task: task(number), agent: AgentName::new("writer").expect("a name") })
}

pub(crate) fn cancelled(number: u128) -> Event {
    event(EventBody::CancelRequested { task: task(number) })
}

pub(crate) fn finished(number: u128) -> Event {
    event(EventBody::TaskFinished { task: task(number), status: TaskStatus::Succeeded })
}

pub(crate) fn delta(number: u128, n: u32) -> Event {
    let delta = Delta { seq: 1, epoch: 1, call: 1, n, text: "word ".to_owned() };
    event(EventBody::TaskDelta { task: task(number), delta })
}

pub(crate) fn step(number: u128, seq: u32, text: &str) -> Event {
    let body = StepBody::Rejected { problems: vec![text.to_owned()] };
    let step = Arc::new(Step { seq, epoch: 1, at: Timestamp::UNIX_EPOCH, body });
    event(EventBody::TaskStep { task: task(number), step })
}
