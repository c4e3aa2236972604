//! Telling: never waits, never fails, and says so to everybody when it could not tell everything.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use domain::{Event, EventBody, TaskId};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::debug;

use super::fold::Spoken;
use super::held::Held;
use super::interest::Interest;
use super::message::{Envelope, Mark, Subjects};
use crate::link::Link;

/// How many tasks are remembered whose deltas this process has told.
pub(super) const SPEAKERS: usize = 16_384;
/// How often others are told at most that events were not told.
const NOTICE: Duration = Duration::from_secs(1);
/// How many events are sent between two looks at what else is to do.
const BATCH: usize = 64;

/// Tells events from a bounded queue.
pub(crate) struct Publisher {
    queue: mpsc::Sender<Telling>,
    /// Of which tasks deltas were told whose end was not told yet.
    speaking: Mutex<HashMap<TaskId, Spoken>>,
    /// Events were dropped of which others were not told yet.
    lost: Arc<AtomicBool>,
}

/// An event, and what it makes of the stored deltas of its task.
struct Telling {
    event: Event,
    mark: Option<Mark>,
}

/// The other end of the queue.
pub(crate) struct Telltale {
    queue: mpsc::Receiver<Telling>,
    lost: Arc<AtomicBool>,
    link: Link,
    subjects: Subjects,
    interest: Arc<Interest>,
    held: Held,
}

impl Publisher {
    pub(crate) fn new(link: Link, subjects: Subjects, interest: Arc<Interest>, room: usize) -> (Self, Telltale) {
        let (sender, queue) = mpsc::channel(room.max(1));
        let lost = Arc::new(AtomicBool::new(false));
        let publisher = Self { queue: sender, speaking: Mutex::default(), lost: lost.clone() };
        (publisher, Telltale { queue, lost, link, subjects, interest, held: Held::default() })
    }

    pub(crate) fn publish(&self, event: Event) {
        let mark = self.mark(&event.body);
        if self.queue.try_send(Telling { event, mark }).is_err() {
            dropped("queue_full");
            self.lost.store(true, Ordering::Relaxed);
        }
    }

    /// Whether deltas of the task were told, which its next step voids.
    pub(crate) fn speaks(&self, task: TaskId) -> bool {
        self.speaking.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&task)
    }

    fn mark(&self, body: &EventBody) -> Option<Mark> {
        let mut speaking = self.speaking.lock().unwrap_or_else(PoisonError::into_inner);
        match body {
            EventBody::TaskDelta { task, delta } => {
                if speaking.len() >= SPEAKERS
                    && !speaking.contains_key(task)
                    && let Some(one) = speaking.keys().next().copied()
                {
                    speaking.remove(&one);
                }
                let spoken = Spoken::from(delta);
                speaking.entry(*task).and_modify(|last| *last = spoken.max(*last)).or_insert(spoken);
                None
            }
            EventBody::TaskStep { task, step } if speaking.get(task).is_some_and(|last| last.seq <= step.seq) => {
                speaking.remove(task);
                Some(Mark::Step(step.seq))
            }
            EventBody::TaskFinished { task, .. } => speaking.remove(task).map(|_| Mark::End),
            _ => None,
        }
    }
}

impl Telltale {
    /// Sends what is in the queue, until the publisher is gone.
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut notice = tokio::time::interval(NOTICE);
        let mut noticed = Instant::now();
        loop {
            tokio::select! {
                count = self.queue.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    for telling in batch.drain(..) {
                        self.take(telling).await;
                    }
                }
                () = until(self.held.next()) => for event in self.held.due() {
                    self.tell(event, None).await;
                },
                _ = notice.tick() => {}
            }
            if self.link.connected() && noticed.elapsed() >= NOTICE && self.lost.swap(false, Ordering::Relaxed) {
                noticed = Instant::now();
                self.send(self.subjects.missed(), HeaderMap::new(), &Envelope::missed()).await;
            }
        }
    }

    /// Decides what travels now.
    async fn take(&mut self, Telling { event, mark }: Telling) {
        let heard = || event.body.task().is_none_or(|task| self.interest.listens(task));
        match (&event.body, mark) {
            (EventBody::TaskDelta { task, .. }, _) => {
                let (task, heard) = (*task, heard());
                for event in self.held.delta(task, event, heard) {
                    self.tell(event, None).await;
                }
            }
            (EventBody::TaskStep { task, step }, Some(mark)) => {
                let (needed, heard) = (self.held.step(*task, step.seq), heard());
                // It was told for the sake of deltas that never travelled.
                if needed || heard {
                    self.tell(event, needed.then_some(mark)).await;
                }
            }
            (EventBody::TaskFinished { task, .. }, Some(mark)) => {
                let needed = self.held.end(*task);
                self.tell(event, needed.then_some(mark)).await;
            }
            _ => self.tell(event, mark).await,
        }
    }

    async fn tell(&self, event: Event, mark: Option<Mark>) {
        let kind = Subjects::word(event.body.kind());
        if !self.link.connected() {
            dropped("not_connected");
            self.lost.store(true, Ordering::Relaxed);
            return;
        }
        let subject = self.subjects.of(&event.body);
        if self.send(subject.clone(), HeaderMap::new(), &Envelope::event(&event)).await {
            metrics::counter!("bus_published_total", "kind" => kind).increment(1);
        } else {
            dropped("too_large");
            self.send(subject, HeaderMap::new(), &Envelope::missed()).await;
        }
        if let (Some(mark), Some(task)) = (mark, event.body.task()) {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Rollup", "sub");
            self.send(self.subjects.deltas(task), headers, &Envelope::mark(mark)).await;
        }
    }

    async fn send(&self, subject: String, headers: HeaderMap, envelope: &Envelope<'_>) -> bool {
        let Some(bytes) = envelope.encode() else { return false };
        let bytes = Bytes::from(bytes);
        let client = &self.link.client;
        let sent = if headers.is_empty() {
            client.publish(subject, bytes).await
        } else {
            client.publish_with_headers(subject, headers, bytes).await
        };
        if let Err(error) = &sent {
            debug!(%error, "an event could not be sent");
        }
        sent.is_ok()
    }
}

/// Waits for a moment; for ever when there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn dropped(reason: &'static str) {
    metrics::counter!("events_dropped_total", "reason" => reason).increment(1);
}
