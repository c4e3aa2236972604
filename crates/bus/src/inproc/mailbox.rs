//! What waits for one subscriber: bounded, and honest about what did not fit.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::Event;
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::Notify;

use crate::Received;

/// A subscriber's queue.
pub(super) struct Mailbox {
    room: usize,
    inner: Mutex<Inner>,
    arrived: Notify,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Received>,
    /// True from the first event that did not fit until the subscriber has read that it missed something.
    missing: bool,
}

impl Mailbox {
    pub(super) fn new(room: usize) -> Arc<Self> {
        Arc::new(Self { room, inner: Mutex::default(), arrived: Notify::new() })
    }

    /// Puts an event in; one that does not fit becomes a `Missed` behind those that did.
    pub(super) fn put(&self, event: &Arc<Event>) {
        {
            let mut inner = self.lock();
            if inner.missing {
                return;
            }
            if inner.waiting.len() < self.room {
                inner.waiting.push_back(Received::Event(event.clone()));
            } else {
                inner.missing = true;
                inner.waiting.push_back(Received::Missed);
            }
        }
        self.arrived.notify_one();
    }

    /// The subscriber's end; `guard` is dropped with it.
    pub(super) fn stream<G: Send + 'static>(self: Arc<Self>, guard: G) -> BoxStream<'static, Received> {
        stream::unfold((self, guard), |(mailbox, guard)| async move {
            let received = mailbox.take().await;
            Some((received, (mailbox, guard)))
        })
        .boxed()
    }

    async fn take(&self) -> Received {
        loop {
            if let Some(received) = self.try_take() {
                return received;
            }
            // There is one subscriber, and a permit is kept for it when it is not waiting yet.
            self.arrived.notified().await;
        }
    }

    fn try_take(&self) -> Option<Received> {
        let mut inner = self.lock();
        let received = inner.waiting.pop_front()?;
        if matches!(received, Received::Missed) {
            inner.missing = false;
        }
        Some(received)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
