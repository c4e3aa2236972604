//! Events: told without waiting for anybody, heard by whoever is there.

mod deltas;
mod fold;
mod held;
mod interest;
mod mailbox;
mod message;
mod publisher;
mod reader;

use std::sync::Arc;

use bus::{BusError, Received, TaskEvents};
use bytes::Bytes;
use domain::{Event, EventKind, TaskId};
use futures::StreamExt;
use futures::stream::BoxStream;
use tracing::debug;

use crate::NatsOptions;
use crate::link::Link;
use deltas::Deltas;
use fold::Heard;
use interest::{BEACON, Interest, Topic};
use mailbox::Mailbox;
use message::{Envelope, Subjects};
use publisher::Publisher;
use reader::{Reader, TaskReader};

/// All that a process tells and hears.
pub(crate) struct Hub {
    link: Link,
    options: Arc<NatsOptions>,
    subjects: Subjects,
    publisher: Publisher,
    interest: Arc<Interest>,
    deltas: Arc<Deltas>,
}

impl Hub {
    pub(crate) fn open(link: &Link, options: &Arc<NatsOptions>) -> Self {
        let subjects = Subjects::new(&options.prefix);
        let deltas = Deltas::new(link.clone(), subjects.clone(), &options.prefix, options.deltas);
        let interest = Arc::new(Interest::new());
        let (publisher, telltale) =
            Publisher::new(link.clone(), subjects.clone(), Arc::clone(&interest), options.publish_queue);
        spawn(link, telltale.run());
        let kept = deltas.clone();
        spawn(link, async move { kept.keep().await });
        spawn(link, hear_others(link.clone(), subjects.clone(), interest.clone()));
        spawn(link, settle(link.clone(), subjects.clone(), interest.clone()));
        Self { link: link.clone(), options: options.clone(), subjects, publisher, interest, deltas }
    }

    pub(crate) fn publish(&self, event: Event) {
        self.publisher.publish(event);
    }

    pub(crate) fn listens(&self, task: TaskId) -> bool {
        self.interest.listens(task) || self.publisher.speaks(task)
    }

    pub(crate) async fn subscribe(&self) -> Result<BoxStream<'static, Received>, BusError> {
        let reading = self.prepare(self.subjects.everything(), Some(Topic::Everything)).await?;
        let _ = self.link.round_trip().await;
        Ok(reading.start(None))
    }

    pub(crate) async fn subscribe_kind(&self, kind: EventKind) -> Result<BoxStream<'static, Received>, BusError> {
        let reading = self.prepare(self.subjects.all_of(kind), None).await?;
        let _ = self.link.round_trip().await;
        Ok(reading.start(None))
    }

    pub(crate) async fn subscribe_task(&self, task: TaskId) -> Result<TaskEvents, BusError> {
        let reading = self.prepare(self.subjects.task(task), Some(Topic::Task(task))).await?;
        // What is told from now on comes in live, so that what is read now leaves no gap that could not be closed.
        let backlog = if let Some(backlog) = self.deltas.read(task).await {
            backlog
        } else {
            let _ = self.link.round_trip().await;
            Vec::new()
        };
        let heard = Heard::after(&backlog);
        let live = reading.start(Some(TaskReader { task, deltas: self.deltas.clone(), heard }));
        Ok(TaskEvents { backlog, live })
    }

    async fn prepare(&self, subject: String, topic: Option<Topic>) -> Result<Reading, BusError> {
        let troubles = self.link.health().borrow().troubles;
        let subscriber = self.link.subscribe(subject).await?;
        let listening = topic.map(|topic| Listening { interest: self.interest.clone(), topic });
        if let Some(topic) = topic
            && let Some(beacon) = self.interest.add(topic)
            && self.link.connected()
        {
            let _ = self.link.client.publish(self.subjects.interest(), beacon).await;
        }
        let mailbox = Mailbox::new(self.options.subscriber_queue, self.options.subscriber_queue_bytes);
        Ok(Reading { link: self.link.clone(), subscriber, mailbox, listening, troubles })
    }
}

/// A subscription that nobody reads yet.
struct Reading {
    link: Link,
    subscriber: async_nats::Subscriber,
    mailbox: Arc<Mailbox>,
    listening: Option<Listening>,
    troubles: u64,
}

impl Reading {
    fn start(self, task: Option<TaskReader>) -> BoxStream<'static, Received> {
        let reader = Reader { link: self.link, mailbox: self.mailbox.clone(), task };
        let (subscriber, listening, troubles) = (self.subscriber, self.listening, self.troubles);
        tokio::spawn(async move {
            reader.run(subscriber, troubles).await;
            drop(listening);
        });
        self.mailbox.stream()
    }
}

/// Counts a listener while it is there.
struct Listening {
    interest: Arc<Interest>,
    topic: Topic,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.interest.remove(self.topic);
    }
}

/// Runs until the bus is closed.
fn spawn(link: &Link, work: impl Future<Output = ()> + Send + 'static) {
    let closed = link.closed.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = closed.cancelled() => {}
            () = work => {}
        }
    });
}

/// Hears who listens and who could not tell everything, and says who listens here.
async fn hear_others(link: Link, subjects: Subjects, interest: Arc<Interest>) {
    let subscriptions =
        (link.client.subscribe(subjects.interest()).await, link.client.subscribe(subjects.missed()).await);
    let (Ok(mut beacons), Ok(mut misses)) = subscriptions else {
        // Only a closed connection refuses, and then nothing listens here any more.
        return;
    };
    let mut beat = tokio::time::interval(BEACON);
    loop {
        tokio::select! {
            beacon = beacons.next() => match beacon {
                Some(beacon) => interest.hear(&beacon.payload),
                None => return,
            },
            missed = misses.next() => match missed {
                Some(message) => if Envelope::decode(&message.payload).is_some_and(|envelope| envelope.missed) {
                    link.trouble();
                },
                None => return,
            },
            _ = beat.tick() => for beacon in interest.beat() {
                tell(&link, subjects.interest(), beacon).await;
            },
        }
    }
}

/// After each connection: tells the subscribers here and elsewhere that they may have missed something.
async fn settle(link: Link, subjects: Subjects, interest: Arc<Interest>) {
    loop {
        let again = link.settle().await;
        interest.unknown();
        if again && let Some(missed) = Envelope::missed().encode() {
            tell(&link, subjects.missed(), Bytes::from(missed)).await;
        }
    }
}

async fn tell(link: &Link, subject: String, body: Bytes) {
    if link.connected()
        && let Err(error) = link.client.publish(subject, body).await
    {
        debug!(%error, "other processes could not be told");
    }
}
