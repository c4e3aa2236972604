//! Where answers come in, and from where large bodies are fetched: one subscription for all.
//!
//! `async_nats` keeps a place for an answer that never comes for ever; here it is given up with the call.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, oneshot};

use crate::carry;
use crate::link::{CallError, Link};

/// What an answer is called that only says that there will be one.
pub(crate) const WORKING: &str = "Agentrunner-Working";
/// How often whoever has a question says that it is at work on it.
pub(crate) const BEAT: Duration = Duration::from_millis(500);
/// A question that nobody has been heard of for so long is lost: its server died, or never got it.
const SILENCE: Duration = Duration::from_secs(2);

/// What is expected, and what is held for others to fetch.
pub(crate) struct Inbox {
    /// What our subjects begin with, not to be guessed by others.
    base: OnceLock<String>,
    next: AtomicU64,
    expected: Mutex<HashMap<u64, Waiting>>,
    held: Mutex<HashMap<u64, Holding>>,
    total: u32,
    /// Bounds what is gathered from others, in KiB.
    gathering: Semaphore,
    /// Bounds what is held for others after its maker is done, in KiB.
    holding: Arc<Semaphore>,
}

/// Somebody waits for an answer.
struct Waiting {
    answer: oneshot::Sender<Message>,
    /// Whoever has the question has said that it is at work on it.
    heard: bool,
}

/// A body, and what tells its holder that it was let go: by being dropped.
struct Holding {
    body: Bytes,
    _released: oneshot::Sender<()>,
}

/// A place for one answer; dropped, the answer is no longer expected.
pub(crate) struct Expected<'a> {
    inbox: &'a Inbox,
    token: u64,
    receiver: oneshot::Receiver<Message>,
}

/// A body that others may fetch until this is dropped.
pub(crate) struct Held {
    inbox: Arc<Inbox>,
    token: u64,
    released: oneshot::Receiver<()>,
}

impl Inbox {
    pub(crate) fn new(large_bytes: usize) -> Self {
        let total = kibibytes(large_bytes);
        Self {
            base: OnceLock::new(),
            next: AtomicU64::new(1),
            expected: Mutex::default(),
            held: Mutex::default(),
            total,
            gathering: Semaphore::new(total as usize),
            holding: Arc::new(Semaphore::new(total as usize)),
        }
    }

    /// Begins to take messages in.
    pub(crate) async fn open(self: &Arc<Self>, link: &Link) {
        let base = self.base.get_or_init(|| link.client.new_inbox());
        // It fails only when the client is gone, and then nothing else works either.
        if let Ok(subscriber) = link.client.subscribe(format!("{base}.*")).await {
            let (inbox, link) = (self.clone(), link.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = link.closed.cancelled() => {}
                    () = inbox.take(subscriber, &link.client) => {}
                }
            });
        }
    }

    async fn take(&self, mut subscriber: Subscriber, client: &Client) {
        while let Some(message) = subscriber.next().await {
            let token = message.subject.rsplit_once('.').map_or("", |(_, token)| token);
            if let Some(token) = token.strip_prefix('h') {
                self.fetched(token, client, &message);
            } else if let Ok(token) = token.parse() {
                self.answered(token, message);
            }
        }
    }

    fn answered(&self, token: u64, message: Message) {
        let mut expected = lock(&self.expected);
        if carry::header(&message, WORKING).is_some() {
            if let Some(waiting) = expected.get_mut(&token) {
                waiting.heard = true;
            }
        } else if let Some(waiting) = expected.remove(&token) {
            let _ = waiting.answer.send(message);
        }
    }

    fn fetched(&self, token: &str, client: &Client, message: &Message) {
        let Ok(token) = token.parse() else { return };
        if message.reply.is_none() {
            lock(&self.held).remove(&token);
            return;
        }
        let body = lock(&self.held).get(&token).map(|held| held.body.clone());
        carry::give(client.clone(), message, body);
    }

    pub(crate) fn expect(&self) -> Expected<'_> {
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, receiver) = oneshot::channel();
        lock(&self.expected).insert(token, Waiting { answer, heard: false });
        Expected { inbox: self, token, receiver }
    }

    /// Gives up all that is expected: the connection on which it was asked for is gone.
    pub(crate) fn forsake(&self) {
        lock(&self.expected).clear();
    }

    /// Sends a message to ourselves through the server.
    pub(crate) async fn echo(&self, client: &Client) -> Result<(), CallError> {
        let expected = self.expect();
        client.publish(expected.subject(), Bytes::new()).await?;
        expected.answer().await.map(|_| ())
    }

    /// Lets others fetch `body`.
    pub(crate) fn hold(self: &Arc<Self>, body: Bytes) -> Held {
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, released) = oneshot::channel();
        lock(&self.held).insert(token, Holding { body, _released: sender });
        Held { inbox: self.clone(), token, released }
    }

    /// Waits for room to gather a body.
    pub(crate) async fn room(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        self.gathering.acquire_many(kibibytes(bytes).min(self.total)).await.ok()
    }

    /// Makes room to hold a body for others, if there is any.
    pub(crate) fn shelf(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.holding.clone().try_acquire_many_owned(kibibytes(bytes).min(self.total)).ok()
    }

    fn base(&self) -> &str {
        self.base.get().map_or("", String::as_str)
    }
}

impl Expected<'_> {
    pub(crate) fn subject(&self) -> String {
        format!("{}.{}", self.inbox.base(), self.token)
    }

    /// The answer, for as long as whoever has the question is heard of.
    pub(crate) async fn answer(mut self) -> Result<Message, CallError> {
        loop {
            match tokio::time::timeout(SILENCE, &mut self.receiver).await {
                Ok(answer) => return answer.map_err(|_| CallError::Lost),
                Err(_) if !self.heard() => return Err(CallError::Silent),
                Err(_) => {}
            }
        }
    }

    /// Tells whether it was heard of since this was last asked.
    fn heard(&self) -> bool {
        lock(&self.inbox.expected).get_mut(&self.token).is_some_and(|waiting| std::mem::take(&mut waiting.heard))
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        lock(&self.inbox.expected).remove(&self.token);
    }
}

impl Held {
    pub(crate) fn subject(&self) -> String {
        format!("{}.h{}", self.inbox.base(), self.token)
    }

    /// Waits until whoever fetched it lets it go.
    pub(crate) async fn released(&mut self) {
        let _ = (&mut self.released).await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.inbox.held).remove(&self.token);
    }
}

/// Counts in KiB, for semaphores count to 2^32.
fn kibibytes(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
