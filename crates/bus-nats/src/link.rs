//! The connection: one a process, made in the background, remade for ever.

use std::future::ready;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, HeaderMap, Message, StatusCode, Subscriber};
use bus::BusError;
use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::inbox::Inbox;
use crate::{NatsError, NatsOptions};

/// How long a round trip to the server may take before it counts as unreachable.
const ROUND_TRIP: Duration = Duration::from_secs(2);
/// A server that is silent for about three times as long is given up.
const PING: Duration = Duration::from_secs(5);
/// Between attempts to reach a server that is connected but does not answer.
const PAUSE: Duration = Duration::from_millis(200);
/// How many commands wait for the connection: enough to keep it busy, few enough that full messages fit into memory.
const COMMANDS: usize = 512;

/// How the connection is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    pub(crate) connected: bool,
    /// How many connections there were.
    pub(crate) connects: u64,
    /// The last of them that serves all subscriptions again.
    settled: u64,
    /// The last of them on which the stream of deltas was looked after.
    prepared: u64,
    /// Counts whatever may have cost a subscriber an event.
    pub(crate) troubles: u64,
    last_error: Option<String>,
}

/// The connection. Clones share it.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) inbox: Arc<Inbox>,
    health: watch::Sender<Health>,
    /// Cancelled when the bus is closed.
    pub(crate) closed: CancellationToken,
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("nobody listens")]
    NoResponder,
    #[error("the connection was lost before the answer came")]
    Lost,
    #[error("whoever was asked is no longer heard of")]
    Silent,
    #[error("it could not be sent: {0}")]
    Unsent(#[from] async_nats::PublishError),
}

impl Link {
    pub(crate) async fn open(options: &NatsOptions, closed: CancellationToken) -> Result<Self, NatsError> {
        let (health, _) = watch::channel(Health::default());
        let inbox = Arc::new(Inbox::new(options.max_large_bytes));
        let told = (health.clone(), inbox.clone());
        let mut connect = ConnectOptions::new()
            .name(&options.name)
            .retry_on_initial_connect()
            .ping_interval(PING)
            .client_capacity(COMMANDS)
            .reconnect_delay_callback(pause)
            .event_callback(move |event| {
                hear(&told.0, &told.1, &event);
                ready(())
            });
        let servers = options.addresses()?;
        if let Some((user, password)) = options.credentials(&servers) {
            // A place of its own for each user's answers, so that a server can be told to keep others from listening there.
            if !user.is_empty() && user.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            {
                connect = connect.custom_inbox_prefix(format!("_INBOX.{user}"));
            }
            connect = connect.user_and_password(user, password);
        }
        // With what was parsed above and a connection in the background, it cannot fail.
        let client = connect.connect(servers).await.map_err(NatsError::Connect)?;
        let link = Self { client, inbox, health, closed };
        link.inbox.open(&link).await;
        Ok(link)
    }

    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    pub(crate) fn connected(&self) -> bool {
        self.health.borrow().connected
    }

    /// Why the server cannot be reached.
    pub(crate) fn why(&self) -> String {
        self.health.borrow().last_error.clone().unwrap_or_else(|| "not connected yet".to_owned())
    }

    pub(crate) fn unavailable(&self) -> BusError {
        BusError::Unavailable(self.why())
    }

    pub(crate) async fn wait_connected(&self) {
        // The sender lives as long as the link.
        let _ = self.health().wait_for(|health| health.connected).await;
    }

    /// Waits for the next connection until it serves all subscriptions, and tells whether there was one before. From then
    /// on the subscribers know that they may have missed something.
    pub(crate) async fn settle(&self) -> bool {
        loop {
            let mut health = self.health();
            let waited = health.wait_for(|health| health.connected && health.settled < health.connects).await;
            let Ok(connects) = waited.map(|health| health.connects) else { return std::future::pending().await };
            if self.round_trip().await.is_ok() {
                self.health.send_modify(|health| {
                    health.settled = connects;
                    health.troubles += 1;
                });
                return connects > 1;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Notes that what the server keeps for us was looked after on a connection.
    pub(crate) fn prepared(&self, connection: u64) {
        self.health.send_modify(|health| health.prepared = connection);
    }

    /// Tells whether the server answers and all subscriptions are made.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        self.round_trip().await?;
        let health = self.health.borrow();
        let set_up = health.settled == health.connects && health.prepared == health.connects;
        if set_up { Ok(()) } else { Err("connected, but not yet set up".to_owned()) }
    }

    /// Tells every subscriber of this process that it may have missed something.
    pub(crate) fn trouble(&self) {
        self.health.send_modify(|health| health.troubles += 1);
    }

    /// Asks the server itself for an answer; an error says why there is none.
    pub(crate) async fn round_trip(&self) -> Result<(), String> {
        if !self.connected() {
            return Err(self.why());
        }
        match tokio::time::timeout(ROUND_TRIP, self.inbox.echo(&self.client)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} ms", ROUND_TRIP.as_millis())),
        }
    }

    /// Subscribes; the server knows about it when the connection is up and this has returned.
    ///
    /// Without a connection it is made up for as soon as there is one.
    pub(crate) async fn subscribe(&self, subject: String) -> Result<Subscriber, BusError> {
        if self.closed.is_cancelled() {
            return Err(BusError::Closed);
        }
        match tokio::time::timeout(ROUND_TRIP, self.client.subscribe(subject)).await {
            Ok(Ok(subscriber)) => Ok(subscriber),
            Ok(Err(error)) => Err(BusError::Unavailable(error.to_string())),
            Err(_) => Err(self.unavailable()),
        }
    }

    /// Subscribes as one of a group, of which each message goes to one.
    pub(crate) async fn subscribe_shared(&self, subject: String, group: &str) -> Result<Subscriber, BusError> {
        let subscribing = self.client.queue_subscribe(subject, group.to_owned());
        match tokio::time::timeout(ROUND_TRIP, subscribing).await {
            Ok(Ok(subscriber)) => Ok(subscriber),
            Ok(Err(error)) => Err(BusError::Unavailable(error.to_string())),
            Err(_) => Err(self.unavailable()),
        }
    }

    /// Sends a message and waits for its one answer, for as long as the caller likes.
    pub(crate) async fn call(&self, subject: String, headers: HeaderMap, body: Bytes) -> Result<Message, CallError> {
        let pending = self.inbox.expect();
        let reply = pending.subject();
        if headers.is_empty() {
            self.client.publish_with_reply(subject, reply, body).await?;
        } else {
            self.client.publish_with_reply_and_headers(subject, reply, headers, body).await?;
        }
        let answer = pending.answer().await?;
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(CallError::NoResponder);
        }
        Ok(answer)
    }
}

fn hear(health: &watch::Sender<Health>, inbox: &Inbox, event: &Event) {
    match event {
        Event::Connected => {
            health.send_modify(|health| {
                health.connected = true;
                health.connects += 1;
                health.last_error = None;
            });
            if health.borrow().connects > 1 {
                metrics::counter!("bus_reconnects_total").increment(1);
            }
            info!("connected to NATS");
        }
        Event::Disconnected | Event::Closed => {
            health.send_modify(|health| {
                health.connected = false;
                health.last_error = Some("the connection was lost".to_owned());
            });
            inbox.forsake();
            warn!("the connection to NATS was lost");
        }
        Event::SlowConsumer(_) => {
            metrics::counter!("events_dropped_total", "reason" => "slow_reader").increment(1);
            health.send_modify(|health| health.troubles += 1);
        }
        Event::ServerError(error) => fail(health, error.to_string()),
        Event::ClientError(error) => fail(health, error.to_string()),
        Event::LameDuckMode | Event::Draining => debug!(%event, "NATS"),
    }
}

/// Notes an error; an outage is logged when its reason changes, not at every attempt.
fn fail(health: &watch::Sender<Health>, error: String) {
    health.send_modify(|health| {
        if health.last_error.as_ref() != Some(&error) {
            warn!(error, "NATS");
        }
        if !health.connected {
            health.last_error = Some(error);
        }
    });
}

/// Full jitter, so that those who lost the server together do not come back together.
fn pause(attempt: usize) -> Duration {
    let most = Duration::from_millis(50 << attempt.saturating_sub(1).min(6));
    most.mul_f64((RandomState::new().hash_one(attempt) >> 11) as f64 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        assert!((0..100).all(|_| pause(1) <= Duration::from_millis(50)));
        assert!((0..100).all(|_| pause(usize::MAX) <= Duration::from_millis(3200)));
        assert!((0..100).any(|_| pause(20) > Duration::from_millis(800)));
    }
}
