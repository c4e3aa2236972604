//! Events and requests over NATS.
//!
//! One connection a process, made in the background and remade for ever: a bus without a server starts, says why it is not
//! ready, and goes on when the server is back. Nothing here is the record: what the server or the connection loses costs
//! its readers a look at the record (they are told `Missed`) and its callers a retry.

mod carry;
mod events;
mod inbox;
mod link;
mod options;
mod requests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bus::{BusError, Events, Received, RequestHandler, Requests, ServeGuard, TaskEvents};
use bytes::Bytes;
use domain::{Event, EventKind, TaskId};
use futures::stream::BoxStream;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use options::{DeltaRetention, NatsError, NatsOptions, Password};

use events::Hub;
use link::Link;
use requests::Services;

/// Events and requests over NATS. Clones share the connection, which is closed with the last of them.
#[derive(Clone)]
pub struct NatsBus {
    options: Arc<NatsOptions>,
    link: Link,
    services: Arc<Services>,
    hub: Arc<Hub>,
    _close: Arc<DropGuard>,
}

impl NatsBus {
    /// Begins to connect, and returns at once; only wrong options are an error.
    ///
    /// Must be called within a Tokio runtime, where its background tasks run until the last clone is dropped.
    pub async fn connect(options: NatsOptions) -> Result<Self, NatsError> {
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if options.prefix.is_empty() || !options.prefix.bytes().all(letters) {
            return Err(NatsError::Prefix(options.prefix));
        }
        let closed = CancellationToken::new();
        let link = Link::open(&options, closed.clone()).await?;
        let options = Arc::new(options);
        let hub = Arc::new(Hub::open(&link, &options));
        Ok(Self { options, link, services: Arc::default(), hub, _close: Arc::new(closed.drop_guard()) })
    }

    /// Asks the server for a sign of life, within two seconds; the error says why there is none.
    pub async fn ready(&self) -> Result<(), String> {
        self.link.ready().await
    }
}

#[async_trait]
impl Requests for NatsBus {
    async fn request(&self, subject: &str, body: Bytes, timeout: Duration) -> Result<Bytes, BusError> {
        requests::ask(&self.link, &self.options, subject, body, timeout).await
    }

    async fn serve(&self, subject: &str, handler: Arc<dyn RequestHandler>) -> Result<ServeGuard, BusError> {
        Services::serve(&self.services, &self.link, &self.options, subject, handler).await
    }
}

#[async_trait]
impl Events for NatsBus {
    fn publish(&self, event: Event) {
        self.hub.publish(event);
    }

    fn listens(&self, task: TaskId) -> bool {
        self.hub.listens(task)
    }

    async fn subscribe(&self) -> Result<BoxStream<'static, Received>, BusError> {
        self.hub.subscribe().await
    }

    async fn subscribe_ends(&self) -> Result<BoxStream<'static, Received>, BusError> {
        self.hub.subscribe_kind(EventKind::End).await
    }

    async fn subscribe_control(&self) -> Result<BoxStream<'static, Received>, BusError> {
        self.hub.subscribe_kind(EventKind::Control).await
    }

    async fn subscribe_task(&self, task: TaskId) -> Result<TaskEvents, BusError> {
        self.hub.subscribe_task(task).await
    }
}
