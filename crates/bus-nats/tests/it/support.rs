//! Buses of tests.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bus_nats::{NatsBus, NatsOptions};

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Options with a prefix that no other test has.
pub fn options(url: &str) -> NatsOptions {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    NatsOptions { servers: vec![url.to_owned()], prefix, name: "test".to_owned(), ..NatsOptions::default() }
}

/// A bus that is connected.
pub async fn connected(options: NatsOptions) -> NatsBus {
    let bus = NatsBus::connect(options).await.unwrap();
    until("the connection", async || bus.ready().await.is_ok()).await;
    bus
}

/// Two buses of one platform, as two processes have them.
pub async fn pair(url: &str) -> (NatsBus, NatsBus) {
    let options = options(url);
    (connected(options.clone()).await, connected(options).await)
}

/// A client that knows nothing of our bus.
pub async fn stranger(url: &str) -> async_nats::Client {
    let user = testkit::servers::USER.to_owned();
    async_nats::ConnectOptions::with_user_and_password(user.clone(), user).connect(url).await.unwrap()
}

/// Waits until `holds`.
pub async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    within(what, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Waits for what must happen.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not happen in time"))
}
