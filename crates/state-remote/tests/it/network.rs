//! A network that loses, delays and counts messages, around any other one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bus::{BusError, RequestHandler, Requests, ServeGuard};
use bytes::Bytes;
use tokio::sync::Semaphore;

/// What the network does beside carrying messages.
#[derive(Default)]
pub(crate) struct Faults {
    /// The first answer of every request is lost.
    pub(crate) lose_first_answers: AtomicBool,
    /// The answers to a batch are too large together.
    pub(crate) refuse_batches: AtomicBool,
    /// The next answer of this subject is kept back until `let_through`.
    pub(crate) hold: Mutex<Option<&'static str>>,
    sent: Mutex<BTreeMap<String, Vec<Bytes>>>,
    answers: Mutex<Vec<(String, Bytes, Bytes)>>,
}

pub(crate) struct Network {
    pub(crate) inner: Arc<dyn Requests>,
    pub(crate) faults: Faults,
    door: Semaphore,
}

impl Network {
    pub(crate) fn around(inner: Arc<dyn Requests>) -> Arc<Self> {
        Arc::new(Self { inner, faults: Faults::default(), door: Semaphore::new(0) })
    }

    pub(crate) fn losing_first_answers(inner: Arc<dyn Requests>) -> Arc<Self> {
        let network = Self::around(inner);
        network.faults.lose_first_answers.store(true, Ordering::SeqCst);
        network
    }

    /// Keeps the next answer of a subject back.
    pub(crate) fn hold(&self, subject: &'static str) {
        *self.faults.hold.lock().unwrap() = Some(subject);
    }

    /// Lets an answer through that is kept back.
    pub(crate) fn let_through(&self) {
        self.door.add_permits(1);
    }

    /// How many requests were sent, by subject.
    pub(crate) fn sent(&self) -> BTreeMap<String, usize> {
        self.faults.sent.lock().unwrap().iter().map(|(subject, frames)| (subject.clone(), frames.len())).collect()
    }

    pub(crate) fn sent_to(&self, subject: &str) -> usize {
        self.faults.sent.lock().unwrap().get(subject).map_or(0, Vec::len)
    }

    /// The requests that were answered, with their answers, in order.
    pub(crate) fn answers(&self) -> Vec<(String, Bytes, Bytes)> {
        self.faults.answers.lock().unwrap().clone()
    }
}

#[async_trait]
impl Requests for Network {
    async fn request(&self, subject: &str, body: Bytes, timeout: Duration) -> Result<Bytes, BusError> {
        let is_first = {
            let mut sent = self.faults.sent.lock().unwrap();
            let frames = sent.entry(subject.to_owned()).or_default();
            let arguments = |frame: &Bytes| frame.split(|byte| *byte == b'\n').nth(1).map(<[u8]>::to_vec);
            let is_first = !frames.iter().any(|frame| arguments(frame) == arguments(&body));
            frames.push(body.clone());
            is_first
        };
        let held = self.faults.hold.lock().unwrap().take_if(|held| *held == subject).is_some();
        let answer = self.inner.request(subject, body.clone(), timeout).await?;
        if held {
            let waited = tokio::time::timeout(timeout, self.door.acquire()).await;
            if let Ok(Ok(permit)) = waited {
                permit.forget();
            }
        }
        if subject == "state.batch" && self.faults.refuse_batches.load(Ordering::SeqCst) {
            return Err(BusError::TooLarge { subject: subject.to_owned(), bytes: answer.len(), limit: 0 });
        }
        self.faults.answers.lock().unwrap().push((subject.to_owned(), body, answer.clone()));
        if is_first && self.faults.lose_first_answers.load(Ordering::SeqCst) {
            return Err(BusError::Timeout { subject: subject.to_owned(), millis: timeout.as_millis() as u64 });
        }
        Ok(answer)
    }

    async fn serve(&self, subject: &str, handler: Arc<dyn RequestHandler>) -> Result<ServeGuard, BusError> {
        self.inner.serve(subject, handler).await
    }
}
