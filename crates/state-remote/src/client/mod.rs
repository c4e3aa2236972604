//! The record as it looks from elsewhere: every method is a call over requests.

mod attempt;
mod gathered;
mod methods;
mod pause;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bus::Requests;
use domain::Ids;
use state::StateError;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use crate::call::Call;
use crate::frame::{Request, encode_error};
use crate::method::{Class, Method, observe};
use attempt::{Certainty, Failed};
use gathered::Gathered;

/// How long a client waits, and the bounds of what it sends.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// How long the answer of a read is waited for, and that of a renewal.
    pub read_timeout: Duration,
    /// How long the answer of a write is waited for.
    pub write_timeout: Duration,
    /// How long the answer of a ping is waited for.
    pub ping_timeout: Duration,
    /// For how long after the first failure new tries begin. A call takes at most its time-out and this.
    pub patience: Duration,
    /// How many calls are under way at once; further ones wait their turn within their time. Renewals and pings do not wait.
    pub max_in_flight: usize,
    /// The largest request in bytes.
    pub max_request_bytes: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            read_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(1),
            patience: Duration::from_secs(2),
            max_in_flight: 256,
            max_request_bytes: 64 << 20,
        }
    }
}

/// The record behind requests.
///
/// It keeps the contract of `State` as far as a network allows: a call may fail with `StateError::Unavailable` when nobody
/// knows whether it was done. `close` closes the client alone, never the record.
pub struct RemoteState {
    requests: Arc<dyn Requests>,
    gathered: Gathered,
    ids: Arc<dyn Ids>,
    options: ClientOptions,
    places: Semaphore,
    closed: AtomicBool,
}

/// The answer of a call.
struct Answered<T> {
    answer: T,
    /// An earlier try may have been done, too.
    repeated: bool,
}

impl RemoteState {
    /// Makes a client; nothing is asked yet. `ids` gives the randomness of the pauses between tries.
    pub fn new(requests: Arc<dyn Requests>, ids: Arc<dyn Ids>, options: ClientOptions) -> Self {
        let places = Semaphore::new(options.max_in_flight.max(1));
        let gathered = Gathered::new(&requests);
        Self { requests, gathered, ids, options, places, closed: AtomicBool::new(false) }
    }

    async fn call<C: Call>(&self, call: C) -> Result<C::Answer, StateError> {
        self.ask(call).await.map(|answered| answered.answer)
    }

    async fn ask<C: Call>(&self, call: C) -> Result<Answered<C::Answer>, StateError> {
        let method = call.method();
        let started = Instant::now();
        let span = tracing::debug_span!("state.call", state.method = method.name);
        let answered = self.ask_until_known(call, method, started).instrument(span).await;
        let outcome = answered.as_ref().map_or_else(StateError::kind, |_| "ok");
        observe("client", method, outcome, started.elapsed());
        answered
    }

    async fn ask_until_known<C: Call>(
        &self,
        call: C,
        method: Method,
        started: Instant,
    ) -> Result<Answered<C::Answer>, StateError> {
        let timeout = self.timeout(method.class);
        let request = Request::new(timeout, &call).map_err(|error| encode_error(&error))?;
        drop(call);
        let limit = self.options.max_request_bytes;
        if request.len() > limit {
            let size = request.len();
            return Err(StateError::TooLarge(format!("a call of {size} bytes to the record; the limit is {limit}")));
        }
        let _place = self.place(method, started + timeout).await?;
        let last = started + timeout + self.patience(method.class);
        let mut give_up_at = None;
        let mut repeated = false;
        for attempt in 0.. {
            if self.closed.load(Ordering::Acquire) {
                return Err(StateError::Closed);
            }
            let budget = timeout.min(last.saturating_duration_since(Instant::now()));
            let Failed { error, certainty } = match self.attempt::<C>(method, &request, budget).await {
                Ok(answer) => return Ok(Answered { answer, repeated }),
                Err(failed) => failed,
            };
            let again = match certainty {
                Certainty::Final => false,
                Certainty::NotDone => true,
                Certainty::Unknown => method.again.is_harmless(),
            };
            let now = Instant::now();
            let give_up_at = *give_up_at.get_or_insert(last.min(now + self.patience(method.class)));
            let pause = pause::full_jitter(attempt, &*self.ids);
            if !again || now + pause >= give_up_at {
                return Err(error);
            }
            repeated |= certainty == Certainty::Unknown;
            metrics::counter!("state_request_repeats_total", "method" => method.name).increment(1);
            tracing::debug!(error = %error, attempt, pause_ms = pause.as_millis() as u64, "call is repeated");
            tokio::time::sleep(pause).await;
        }
        Err(StateError::Unavailable(format!("{} was tried in vain", method.name)))
    }

    fn timeout(&self, class: Class) -> Duration {
        match class {
            Class::Read | Class::Beat => self.options.read_timeout,
            Class::Write => self.options.write_timeout,
            Class::Ping => self.options.ping_timeout,
        }
    }

    fn patience(&self, class: Class) -> Duration {
        if class == Class::Ping { Duration::ZERO } else { self.options.patience }
    }

    async fn place(&self, method: Method, until: Instant) -> Result<Option<SemaphorePermit<'_>>, StateError> {
        if matches!(method.class, Class::Beat | Class::Ping) {
            return Ok(None);
        }
        match timeout_at(until, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(Some(place)),
            Ok(Err(_)) => Err(StateError::Closed),
            Err(_) => Err(StateError::Unavailable("too many calls to the record are under way".to_owned())),
        }
    }
}
