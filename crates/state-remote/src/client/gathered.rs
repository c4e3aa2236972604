//! Calls that are under way at once, sent together: fewer and larger messages, and fewer and larger commits behind them.

use std::sync::Arc;
use std::time::Duration;

use bus::{BusError, Requests};
use bytes::Bytes;
use futures::future::join_all;
use state::gather::{Bounds, Gather};
use tokio::sync::oneshot;

use crate::batch::{self, BYTES_MAX, CALLS_MAX};
use crate::method::Method;

/// Few lanes make large batches. More than one, so that no call waits for the slowest of the batch before it.
const BOUNDS: Bounds = Bounds { lanes: 3, slow: SLOW, beside: 16, jobs: CALLS_MAX, bytes: BYTES_MAX };
/// Its server may be gone, and others are there.
const SLOW: Duration = Duration::from_millis(50);

/// A call, and who waits for its answer.
struct Asked {
    method: Method,
    frame: Bytes,
    budget: Duration,
    reply: oneshot::Sender<Result<Bytes, BusError>>,
}

/// Sends calls.
pub(super) struct Gathered(Gather<Asked>);

impl Gathered {
    pub(super) fn new(requests: &Arc<dyn Requests>) -> Self {
        let requests = Arc::clone(requests);
        Self(Gather::new(BOUNDS, move |batch| Box::pin(send(Arc::clone(&requests), batch))))
    }

    /// Asks, together with whoever else does; no longer than `budget`.
    pub(super) async fn ask(&self, method: Method, frame: Bytes, budget: Duration) -> Result<Bytes, BusError> {
        let (reply, answer) = oneshot::channel();
        let bytes = frame.len();
        self.0.put(Asked { method, frame, budget, reply }, bytes);
        match tokio::time::timeout(budget, answer).await {
            Ok(answered) => answered.unwrap_or_else(|_| Err(BusError::Unavailable("the call broke off".to_owned()))),
            Err(_) => Err(BusError::Timeout { subject: method.subject(), millis: budget.as_millis() as u64 }),
        }
    }
}

async fn send(requests: Arc<dyn Requests>, mut batch: Vec<Asked>) {
    // Whoever waits no longer has given up, or was dropped: nothing was sent, so nothing was done.
    batch.retain(|asked| !asked.reply.is_closed());
    if batch.len() > 1 {
        let calls = batch::write_calls(batch.iter().map(|asked| (asked.method.name, asked.frame.as_ref())));
        let longest = batch.iter().map(|asked| asked.budget).max().unwrap_or_default();
        metrics::histogram!("state_batch_calls").record(batch.len() as f64);
        match requests.request(batch::SUBJECT, calls, longest).await {
            Ok(answers) => return distribute(&answers, batch),
            // An older server knows no batches.
            Err(BusError::NoResponder { .. }) => {}
            // Together the answers do not fit into one. What may be done twice is asked for alone.
            Err(error @ BusError::TooLarge { .. }) => {
                let lost = BusError::Unavailable(error.to_string());
                let (again, never): (Vec<_>, Vec<_>) =
                    batch.into_iter().partition(|asked| asked.method.again.is_harmless());
                for asked in never {
                    asked.answer(Err(lost.clone()));
                }
                batch = again;
            }
            Err(error) => return batch.into_iter().for_each(|asked| asked.answer(Err(error.clone()))),
        }
    }
    let alone = batch.into_iter().map(|mut asked| async {
        let frame = std::mem::take(&mut asked.frame);
        let answer = requests.request(&asked.method.subject(), frame, asked.budget).await;
        asked.answer(answer);
    });
    join_all(alone).await;
}

fn distribute(answers: &Bytes, batch: Vec<Asked>) {
    let Some(answers) = batch::read_answers(answers, batch.len()) else {
        let error = BusError::Unavailable("the answers to several calls are not understood".to_owned());
        return batch.into_iter().for_each(|asked| asked.answer(Err(error.clone())));
    };
    for (asked, answer) in batch.into_iter().zip(answers) {
        asked.answer(Ok(answer));
    }
}

impl Asked {
    fn answer(self, answer: Result<Bytes, BusError>) {
        // Nobody listens any more when the caller gave up.
        let _ = self.reply.send(answer);
    }
}
