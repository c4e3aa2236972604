//! One subscriber's side: from what comes in to what waits for it.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use domain::{Delta, Event, EventBody, Namespace, TaskId};
use futures::StreamExt;
use tokio::sync::watch;

use super::deltas::Deltas;
use super::fold::{Heard, Verdict};
use super::mailbox::Mailbox;
use super::message::Envelope;
use crate::link::{Health, Link};

/// How often a gap is looked up in what is stored: it may be stored a moment after it was told.
const LOOK_UPS: u32 = 4;
/// Between two look-ups.
const PAUSE: Duration = Duration::from_millis(5);

/// Takes a subscription's messages in.
pub(crate) struct Reader {
    pub(crate) link: Link,
    pub(crate) mailbox: Arc<Mailbox>,
    /// Of a task's subscriber: its deltas.
    pub(crate) task: Option<TaskReader>,
}

/// What a task's subscriber needs to hear each delta once and in order.
pub(crate) struct TaskReader {
    pub(crate) task: TaskId,
    pub(crate) deltas: Arc<Deltas>,
    pub(crate) heard: Heard,
}

impl Reader {
    /// Reads until the subscriber or the bus is gone. `troubles` is how many there were when the subscription was made.
    pub(crate) async fn run(mut self, mut subscriber: Subscriber, mut troubles: u64) {
        let (mut health, left, closed) = (self.link.health(), self.mailbox.left.clone(), self.link.closed.clone());
        loop {
            tokio::select! {
                () = left.cancelled() => break,
                () = closed.cancelled() => break,
                message = subscriber.next() => match message {
                    Some(message) => self.hear(&message).await,
                    None => break,
                },
                changed = trouble(&mut health, troubles) => match changed {
                    Some(changed) => {
                        troubles = changed;
                        self.mailbox.missed();
                    }
                    None => break,
                },
            }
        }
        self.mailbox.close();
    }

    async fn hear(&mut self, message: &Message) {
        // It is about to start anew; until then nothing is worth decoding.
        if self.mailbox.missing() {
            return;
        }
        let Some(envelope) = Envelope::decode(&message.payload) else { return };
        if envelope.missed {
            self.mailbox.missed();
        }
        let Some(event) = envelope.event else { return };
        let event = event.into_owned();
        let bytes = message.payload.len();
        let Some(reader) = &mut self.task else {
            if !matches!(event.body, EventBody::TaskDelta { .. }) {
                self.mailbox.put(event, bytes);
            }
            return;
        };
        if event.body.task() != Some(reader.task) {
            return;
        }
        match &event.body {
            EventBody::TaskDelta { delta, .. } => match reader.heard.judge(delta) {
                Verdict::Tell => {
                    reader.heard.told(delta);
                    self.mailbox.put(event, bytes);
                }
                Verdict::Gap => reader.close_gap(&self.mailbox, &event.namespace, delta).await,
                Verdict::Drop => {}
            },
            EventBody::TaskFinished { .. } => {
                reader.heard.ended();
                self.mailbox.put(event, bytes);
            }
            _ => self.mailbox.put(event, bytes),
        }
    }
}

/// Waits until there were more troubles than known.
async fn trouble(health: &mut watch::Receiver<Health>, known: u64) -> Option<u64> {
    health.wait_for(|health| health.troubles != known).await.ok().map(|health| health.troubles)
}

impl TaskReader {
    /// Tells what came before `delta` from what is stored; what cannot be found was missed.
    async fn close_gap(&mut self, mailbox: &Mailbox, namespace: &Namespace, delta: &Delta) {
        for look_up in 0..LOOK_UPS {
            if look_up > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let Some(stored) = self.deltas.read(self.task).await else { break };
            if let Some(tell) = self.heard.fill(&stored, delta) {
                for delta in &tell {
                    self.tell(mailbox, namespace, delta);
                }
                return;
            }
        }
        // Whoever comes late hears what is left; whoever has heard something is told that there is a hole.
        if self.heard.anything() {
            mailbox.missed();
        }
        self.tell(mailbox, namespace, delta);
    }

    fn tell(&mut self, mailbox: &Mailbox, namespace: &Namespace, delta: &Delta) {
        self.heard.told(delta);
        let body = EventBody::TaskDelta { task: self.task, delta: delta.clone() };
        mailbox.put(Event { namespace: namespace.clone(), body }, delta.text.len() + size_of::<Event>());
    }
}
