//! What waits for one subscriber: bounded in number and bytes, and honest about what did not fit.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bus::Received;
use domain::Event;
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A subscriber's queue.
pub(crate) struct Mailbox {
    room: usize,
    room_bytes: usize,
    inner: Mutex<Inner>,
    changed: Notify,
    /// Cancelled when the subscriber is gone.
    pub(crate) left: CancellationToken,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<(Received, usize)>,
    bytes: usize,
    /// True from the first event that did not fit until the subscriber has read that it missed something.
    missing: bool,
    closed: bool,
}

impl Mailbox {
    pub(crate) fn new(room: usize, room_bytes: usize) -> Arc<Self> {
        let left = CancellationToken::new();
        Arc::new(Self { room, room_bytes, inner: Mutex::default(), changed: Notify::new(), left })
    }

    /// Whether an event would be dropped, so that it need not even be decoded.
    pub(crate) fn missing(&self) -> bool {
        self.lock().missing
    }

    /// Puts an event in; one that does not fit becomes a `Missed` behind those that did.
    pub(crate) fn put(&self, event: Event, bytes: usize) {
        {
            let mut inner = self.lock();
            if inner.missing {
                return;
            }
            if inner.waiting.len() < self.room && (inner.bytes == 0 || inner.bytes + bytes <= self.room_bytes) {
                inner.bytes += bytes;
                inner.waiting.push_back((Received::Event(Arc::new(event)), bytes));
            } else {
                metrics::counter!("events_dropped_total", "reason" => "slow_subscriber").increment(1);
                miss(&mut inner);
            }
        }
        self.changed.notify_one();
    }

    /// Tells the subscriber that it missed something.
    pub(crate) fn missed(&self) {
        miss(&mut self.lock());
        self.changed.notify_one();
    }

    /// Ends the subscriber's stream, once it has read what waits.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// The subscriber's end.
    pub(crate) fn stream(self: Arc<Self>) -> BoxStream<'static, Received> {
        let leaving: DropGuard = self.left.clone().drop_guard();
        stream::unfold((self, leaving), |(mailbox, leaving)| async move {
            let received = mailbox.take().await?;
            Some((received, (mailbox, leaving)))
        })
        .boxed()
    }

    async fn take(&self) -> Option<Received> {
        loop {
            {
                let mut inner = self.lock();
                if let Some((received, bytes)) = inner.waiting.pop_front() {
                    inner.bytes -= bytes;
                    if matches!(received, Received::Missed) {
                        inner.missing = false;
                    }
                    return Some(received);
                }
                if inner.closed {
                    return None;
                }
            }
            // There is one subscriber, and a permit is kept for it when it is not waiting yet.
            self.changed.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn miss(inner: &mut Inner) {
    if !inner.missing {
        inner.missing = true;
        inner.waiting.push_back((Received::Missed, 0));
    }
}
