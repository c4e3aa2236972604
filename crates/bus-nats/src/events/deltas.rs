//! Deltas for late readers: a bounded stream in the server's memory.
//!
//! They are published like every other event, and the stream takes them in on the way. Losing the stream means that late
//! readers hear less; it is made again by itself.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use async_nats::{Message, StatusCode};
use bytes::Bytes;
use domain::{Delta, EventBody, TaskId};
use futures::StreamExt;
use serde_json::json;
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::fold::{Backlog, Stored};
use super::message::{Envelope, Subjects};
use crate::DeltaRetention;
use crate::carry;
use crate::link::Link;

/// How often the stream is looked after, although nothing told that it is missing.
const LOOK: Duration = Duration::from_secs(30);
/// Between attempts to make it.
const PAUSE: Duration = Duration::from_secs(2);
/// How long reading a task's deltas may take.
const READ: Duration = Duration::from_secs(1);
/// How many messages are read at once.
const BATCH: u32 = 1024;

/// The stored deltas.
pub(crate) struct Deltas {
    link: Link,
    subjects: Subjects,
    stream: String,
    retention: DeltaRetention,
    gone: Notify,
}

/// What a page of stored messages ended with.
enum PageEnd {
    Last,
    More(u64),
}

impl Deltas {
    pub(crate) fn new(link: Link, subjects: Subjects, prefix: &str, retention: DeltaRetention) -> Arc<Self> {
        let stream = format!("{prefix}-deltas");
        Arc::new(Self { link, subjects, stream, retention, gone: Notify::new() })
    }

    /// Keeps the stream in being, until it is dropped.
    pub(crate) async fn keep(&self) {
        let mut complained = false;
        loop {
            self.link.wait_connected().await;
            let connection = self.link.health().borrow().connects;
            let pause = match self.make().await {
                Ok(()) => {
                    complained = false;
                    LOOK
                }
                Err(error) => {
                    if !complained {
                        warn!(error, stream = self.stream, "deltas are not kept for late readers");
                    }
                    complained = true;
                    PAUSE
                }
            };
            // Late readers are no reason not to be ready.
            self.link.prepared(connection);
            let mut health = self.link.health();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.gone.notified() => {}
                _ = health.wait_for(|health| health.connected && health.connects != connection) => {}
            }
        }
    }

    async fn make(&self) -> Result<(), String> {
        let config = stream::Config {
            name: self.stream.clone(),
            description: Some("What models are saying, for readers that come late".to_owned()),
            subjects: vec![self.subjects.all_deltas()],
            storage: stream::StorageType::Memory,
            discard: stream::DiscardPolicy::Old,
            max_age: self.retention.max_age,
            max_bytes: i64::try_from(self.retention.max_bytes).unwrap_or(i64::MAX),
            max_messages_per_subject: i64::from(self.retention.max_per_task),
            max_messages: -1,
            max_consumers: -1,
            num_replicas: 1,
            no_ack: true,
            allow_direct: true,
            // A mark takes the place of the deltas that it voids.
            allow_rollup: true,
            ..stream::Config::default()
        };
        let context = jetstream::new(self.link.client.clone());
        context.create_or_update_stream(config).await.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Reads what late readers of a task get; `None` when it cannot be read.
    pub(crate) async fn read(&self, task: TaskId) -> Option<Vec<Delta>> {
        if !self.link.connected() {
            return None;
        }
        match tokio::time::timeout(READ, self.pages(task)).await {
            Ok(Ok(deltas)) => Some(deltas),
            Ok(Err(error)) => {
                debug!(error, stream = self.stream, "stored deltas cannot be read");
                self.gone.notify_one();
                None
            }
            Err(_) => {
                debug!(stream = self.stream, "stored deltas did not come in time");
                None
            }
        }
    }

    async fn pages(&self, task: TaskId) -> Result<Vec<Delta>, String> {
        let mut backlog = Backlog::default();
        let mut from = 1;
        while let PageEnd::More(next) = self.page(task, from, &mut backlog).await? {
            from = next;
        }
        Ok(backlog.finish())
    }

    async fn page(&self, task: TaskId, from: u64, backlog: &mut Backlog) -> Result<PageEnd, String> {
        let client = &self.link.client;
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| error.to_string())?;
        let wanted = json!({ "seq": from, "next_by_subj": self.subjects.deltas(task), "batch": BATCH });
        let subject = format!("$JS.API.DIRECT.GET.{}", self.stream);
        client
            .publish_with_reply(subject, inbox, Bytes::from(wanted.to_string()))
            .await
            .map_err(|error| error.to_string())?;
        while let Some(message) = answers.next().await {
            match message.status.map(|status| status.as_u16()) {
                None => {
                    if let Some(stored) = stored(&message) {
                        backlog.take(stored);
                    }
                }
                Some(204) => {
                    let pending: u64 = number(&message, "Nats-Num-Pending");
                    let last: u64 = number(&message, "Nats-Last-Sequence");
                    return Ok(if pending > 0 { PageEnd::More(last.max(from) + 1) } else { PageEnd::Last });
                }
                Some(status) if status == StatusCode::NOT_FOUND.as_u16() => return Ok(PageEnd::Last),
                Some(status) => {
                    return Err(format!("{status} {}", message.description.as_deref().unwrap_or("no such stream")));
                }
            }
        }
        Err("the connection was closed".to_owned())
    }
}

fn stored(message: &Message) -> Option<Stored> {
    let envelope = Envelope::decode(&message.payload)?;
    if let Some(mark) = envelope.mark {
        return Some(Stored::Mark(mark));
    }
    match envelope.event?.into_owned().body {
        EventBody::TaskDelta { delta, .. } => Some(Stored::Delta(delta)),
        _ => None,
    }
}

fn number(message: &Message, header: &'static str) -> u64 {
    carry::header(message, header).and_then(|text| text.parse().ok()).unwrap_or(0)
}
