//! Answers calls for any record.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bus::{BusError, RequestHandler, Requests, ServeGuard};
use bytes::Bytes;
use futures::future::join_all;
use state::{State, StateError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Instrument as _;

use crate::batch;
use crate::call::Call;
use crate::calls;
use crate::frame::{self, Answer, Reason, Refusal};
use crate::method::{Class, Method};

/// The bounds of a server.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// How many calls are under way at once; what comes above is refused at once. Renewals and pings have places of their own.
    pub max_in_flight: usize,
    /// The largest request in bytes.
    pub max_request_bytes: usize,
    /// The longest list that may be asked for.
    pub max_list: u32,
    /// The longest time that the store is waited for, whatever a request says.
    pub longest_call: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            max_in_flight: 512,
            max_request_bytes: 64 << 20,
            max_list: 10_000,
            longest_call: Duration::from_secs(60),
        }
    }
}

/// How many renewals and pings are under way at once.
const KEPT_PLACES: usize = 64;

/// Answers calls until it is dropped.
///
/// Dropping it takes no new calls; those under way are answered all the same. `stop` also waits for them.
pub struct Serving {
    guards: Vec<ServeGuard>,
    server: Arc<Server>,
}

impl Serving {
    /// Takes no new calls and waits for those under way; false when some were not done after `limit`.
    pub async fn stop(self, limit: Duration) -> bool {
        let Self { guards, server } = self;
        drop(guards);
        let places = server.options.max_in_flight.max(1) as u32;
        let idle = async {
            let places = server.places.acquire_many(places).await;
            let kept = server.kept_places.acquire_many(KEPT_PLACES as u32).await;
            places.is_ok() && kept.is_ok()
        };
        tokio::time::timeout(limit, idle).await.unwrap_or(false)
    }
}

/// Answers calls to `state` that arrive over `requests`, beside any other server that does.
///
/// Nothing is served when it fails. Every request is checked: sizes, lengths of lists, versions; who may send one is
/// for the bus to decide.
pub async fn serve(
    requests: &dyn Requests,
    state: Arc<dyn State>,
    options: ServerOptions,
) -> Result<Serving, BusError> {
    let server = Arc::new(Server {
        state,
        places: Arc::new(Semaphore::new(options.max_in_flight.max(1))),
        kept_places: Arc::new(Semaphore::new(KEPT_PLACES)),
        options,
    });
    let server_of_all = Arc::clone(&server);
    let mut endpoints = Endpoints { requests, server: server_of_all, guards: Vec::new(), gathered: HashMap::new() };
    endpoints.serve::<calls::claim::Claim>().await?;
    endpoints.serve::<calls::signal::Signal>().await?;
    calls::operator::serve_all(&mut endpoints).await?;
    calls::worker::serve_all(&mut endpoints).await?;
    calls::sweeper::serve_all(&mut endpoints).await?;
    calls::reader::serve_all(&mut endpoints).await?;
    calls::values::serve_all(&mut endpoints).await?;
    let Endpoints { mut guards, gathered, .. } = endpoints;
    guards.push(requests.serve(batch::SUBJECT, Arc::new(Batches(gathered))).await?);
    Ok(Serving { guards, server })
}

/// Collects what is served.
pub(crate) struct Endpoints<'a> {
    requests: &'a dyn Requests,
    server: Arc<Server>,
    guards: Vec<ServeGuard>,
    /// What may come in batches, by name.
    gathered: HashMap<&'static str, Arc<dyn RequestHandler>>,
}

impl Endpoints<'_> {
    /// Serves one method.
    pub(crate) async fn serve<C: Call>(&mut self) -> Result<(), BusError> {
        let endpoint: Arc<dyn RequestHandler> =
            Arc::new(Endpoint::<C> { server: Arc::clone(&self.server), call: PhantomData });
        self.guards.push(self.requests.serve(&C::METHOD.subject(), Arc::clone(&endpoint)).await?);
        if C::METHOD.is_gathered() {
            self.gathered.insert(C::METHOD.name, endpoint);
        }
        Ok(())
    }
}

struct Endpoint<C> {
    server: Arc<Server>,
    call: PhantomData<fn() -> C>,
}

#[async_trait]
impl<C: Call> RequestHandler for Endpoint<C> {
    async fn handle(&self, body: Bytes) -> Bytes {
        let span = tracing::debug_span!("state.answer", state.method = C::METHOD.name);
        self.server.answer::<C>(body).instrument(span).await
    }
}

/// Answers several calls at once, each as if it had come alone.
struct Batches(HashMap<&'static str, Arc<dyn RequestHandler>>);

#[async_trait]
impl RequestHandler for Batches {
    async fn handle(&self, body: Bytes) -> Bytes {
        let malformed = |detail: &str| {
            let detail = detail.to_owned();
            Answer::<()>::Refused(Refusal { reason: Reason::Malformed, detail }).write()
        };
        let Some(calls) = batch::read_calls(&body) else { return malformed("this is no batch of calls") };
        drop(body);
        let answers = calls.into_iter().map(|(name, call)| async move {
            match self.0.get(name.as_str()) {
                Some(endpoint) => endpoint.handle(call).await,
                None => malformed("this call is not made in batches"),
            }
        });
        batch::write_answers(&join_all(answers).await)
    }
}

struct Server {
    state: Arc<dyn State>,
    places: Arc<Semaphore>,
    kept_places: Arc<Semaphore>,
    options: ServerOptions,
}

impl Server {
    async fn answer<C: Call>(&self, body: Bytes) -> Bytes {
        let started = tokio::time::Instant::now();
        let answer = match self.perform::<C>(body).await {
            Ok(Ok(answer)) => Answer::Done(answer),
            Ok(Err(StateError::Closed)) => {
                Answer::Refused(Refusal { reason: Reason::Stopping, detail: "the server stops".to_owned() })
            }
            Ok(Err(error)) => Answer::Failed(error),
            Err(refusal) => Answer::Refused(refusal),
        };
        let outcome = match &answer {
            Answer::Done(_) => "ok",
            Answer::Failed(error) => error.kind(),
            Answer::Refused(refusal) => refusal.reason.as_str(),
        };
        if let Answer::Refused(refusal) = &answer {
            tracing::debug!(state.method = C::METHOD.name, reason = outcome, detail = refusal.detail, "call refused");
        }
        let frame = answer.write();
        crate::method::observe("server", C::METHOD, outcome, started.elapsed());
        frame
    }

    async fn perform<C: Call>(&self, body: Bytes) -> Result<Result<C::Answer, StateError>, Refusal> {
        let refused = |reason, detail: String| Refusal { reason, detail };
        let limit = self.options.max_request_bytes;
        if body.len() > limit {
            let detail = format!("a request of {} bytes; the limit is {limit}", body.len());
            return Err(refused(Reason::TooLarge, detail));
        }
        let (header, arguments) = frame::open(&body)?;
        if header.budget_ms == 0 {
            return Err(refused(Reason::Expired, "the time of the call had passed before it began".to_owned()));
        }
        let permit = self.place(C::METHOD)?;
        let call: C = serde_json::from_slice(arguments)
            .map_err(|error| refused(Reason::Malformed, format!("the arguments of {}: {error}", C::METHOD.name)))?;
        drop(body);
        let limit = self.options.max_list;
        if call.list() > limit {
            let detail = format!("a list of at most {} was asked for; the limit is {limit}", call.list());
            return Err(refused(Reason::TooLarge, detail));
        }
        let budget = Duration::from_millis(header.budget_ms.into()).min(self.options.longest_call);
        call.within(Arc::clone(&self.state), budget, permit)
            .await
            .ok_or_else(|| refused(Reason::Late, format!("the store did not answer within {} ms", budget.as_millis())))
    }

    fn place(&self, method: Method) -> Result<OwnedSemaphorePermit, Refusal> {
        let places = match method.class {
            Class::Beat | Class::Ping => &self.kept_places,
            Class::Read | Class::Write => &self.places,
        };
        Arc::clone(places)
            .try_acquire_owned()
            .map_err(|_| Refusal { reason: Reason::Overloaded, detail: "too many calls are under way".to_owned() })
    }
}
