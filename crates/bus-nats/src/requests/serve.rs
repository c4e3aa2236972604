//! Answering: one NATS service a first word of a subject, one endpoint a subject.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::service::endpoint::Endpoint;
use async_nats::service::error::Error as Refusal;
use async_nats::service::{Request, Service, ServiceExt};
use bus::{BusError, RequestHandler, ServeGuard};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span, warn};

use super::{FAILED, OVERLOADED, TOO_LARGE, UNFETCHED, full_subject, refusal};
use crate::NatsOptions;
use crate::carry::{self, CarryError};
use crate::link::Link;

/// How long a large answer waits to be fetched.
const FETCH: Duration = Duration::from_secs(60);

/// The services of this process.
#[derive(Default)]
pub(crate) struct Services {
    /// By the first word of their subjects.
    running: Mutex<HashMap<String, Running>>,
}

struct Running {
    service: Service,
    room: Arc<Semaphore>,
    servers: usize,
}

/// What one server of a subject works with.
struct Server {
    link: Link,
    subject: String,
    handler: Arc<dyn RequestHandler>,
    room: Arc<Semaphore>,
    max_body_bytes: usize,
}

impl Services {
    /// Serves `subject` until the guard is dropped: then no further request is taken, and those that were are answered.
    ///
    /// A request that the server of NATS hands over while it is being told so is lost, and costs its caller the time-out.
    pub(crate) async fn serve(
        services: &Arc<Self>,
        link: &Link,
        options: &NatsOptions,
        subject: &str,
        handler: Arc<dyn RequestHandler>,
    ) -> Result<ServeGuard, BusError> {
        if link.closed.is_cancelled() {
            return Err(BusError::Closed);
        }
        let word = subject.split('.').next().unwrap_or(subject).to_owned();
        let (endpoint, room) = services.join(link, options, &word, subject).await?;
        // So that a request of any process finds it from now on; without a connection it is found as soon as there is one.
        let _ = link.round_trip().await;
        let server = Arc::new(Server {
            link: link.clone(),
            subject: subject.to_owned(),
            handler,
            room,
            max_body_bytes: options.max_body_bytes,
        });
        let stop = link.closed.child_token();
        let (stopped, services) = (stop.clone(), services.clone());
        tokio::spawn(async move {
            server.run(endpoint, stopped).await;
            services.leave(&word).await;
        });
        Ok(ServeGuard::new(move || stop.cancel()))
    }

    async fn join(
        &self,
        link: &Link,
        options: &NatsOptions,
        word: &str,
        subject: &str,
    ) -> Result<(Endpoint, Arc<Semaphore>), BusError> {
        let mut running = self.running.lock().await;
        if !running.contains_key(word) {
            let metadata =
                [("prefix".to_owned(), options.prefix.clone()), ("process".to_owned(), options.name.clone())];
            let service = link
                .client
                .service_builder()
                .description(format!("Answers requests of `{word}`"))
                .metadata(HashMap::from(metadata))
                .start(word, env!("CARGO_PKG_VERSION"))
                .await
                .map_err(|error| BusError::Unavailable(error.to_string()))?;
            let room = Arc::new(Semaphore::new(options.concurrent_requests));
            running.insert(word.to_owned(), Running { service, room, servers: 0 });
        }
        let Some(entry) = running.get_mut(word) else { return Err(BusError::Closed) };
        let endpoint = entry
            .service
            .endpoint_builder()
            .name(subject.replace('.', "-"))
            .add(full_subject(&options.prefix, subject))
            .await
            .map_err(|error| BusError::Unavailable(error.to_string()))?;
        entry.servers += 1;
        Ok((endpoint, entry.room.clone()))
    }

    async fn leave(&self, word: &str) {
        let mut running = self.running.lock().await;
        let Some(entry) = running.get_mut(word) else { return };
        entry.servers -= 1;
        if entry.servers == 0
            && let Some(entry) = running.remove(word)
            && let Err(error) = entry.service.stop().await
        {
            debug!(%error, service = word, "the service could not be stopped");
        }
    }
}

impl Server {
    async fn run(self: Arc<Self>, mut endpoint: Endpoint, stop: CancellationToken) {
        let mut stopping = false;
        loop {
            let request = tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    if let Err(error) = endpoint.stop().await {
                        debug!(%error, subject = self.subject, "the endpoint could not be stopped");
                    }
                    continue;
                }
                request = endpoint.next() => request,
            };
            let Some(request) = request else { return };
            self.clone().take(request).await;
        }
    }

    async fn take(self: Arc<Self>, request: Request) {
        if let Ok(permit) = self.room.clone().try_acquire_owned() {
            let traceparent = carry::header(&request.message, "traceparent").unwrap_or_default();
            let span = info_span!("nats.request", subject = self.subject, traceparent);
            let work = async move {
                self.answer(&request).await;
                drop(permit);
            };
            tokio::spawn(work.instrument(span));
        } else {
            metrics::counter!("bus_served_total", "outcome" => "overloaded").increment(1);
            self.respond(&request, Err(refusal(OVERLOADED, "is overloaded")), HeaderMap::new()).await;
        }
    }

    async fn answer(&self, request: &Request) {
        match self.handle(request).await {
            Ok(answer) if answer.len() <= carry::inline_limit(&self.link.client) => {
                metrics::counter!("bus_served_total", "outcome" => "answered").increment(1);
                self.respond(request, Ok(answer), HeaderMap::new()).await;
            }
            Ok(answer) => {
                metrics::counter!("bus_served_total", "outcome" => "answered").increment(1);
                self.lend(request, answer).await;
            }
            Err(refused) => {
                metrics::counter!("bus_served_total", "outcome" => "failed").increment(1);
                self.respond(request, Err(refused), HeaderMap::new()).await;
            }
        }
    }

    async fn handle(&self, request: &Request) -> Result<Bytes, Refusal> {
        let body =
            carry::body(&self.link, &request.message, self.max_body_bytes).await.map_err(|error| match error {
                CarryError::TooLarge { bytes, .. } => refusal(TOO_LARGE, bytes.to_string()),
                error => refusal(UNFETCHED, format!("could not fetch the request: {error}")),
            })?;
        let answer = AssertUnwindSafe(self.handler.handle(body)).catch_unwind().await.map_err(|_| {
            warn!(subject = self.subject, "a request's handler panicked");
            refusal(FAILED, "failed while answering")
        })?;
        if answer.len() > self.max_body_bytes {
            return Err(refusal(TOO_LARGE, answer.len().to_string()));
        }
        Ok(answer)
    }

    /// Answers with a reference, and holds the answer until it was fetched.
    async fn lend(&self, request: &Request, answer: Bytes) {
        let Some(_room) = self.link.inbox.shelf(answer.len()) else {
            let full = refusal(OVERLOADED, "has too many large answers that were not fetched yet");
            return self.respond(request, Err(full), HeaderMap::new()).await;
        };
        let size = answer.len();
        let mut held = self.link.inbox.hold(answer);
        let mut headers = HeaderMap::new();
        carry::refer(&mut headers, &held, size);
        self.respond(request, Ok(Bytes::new()), headers).await;
        tokio::select! {
            () = held.released() => {}
            () = self.link.closed.cancelled() => {}
            () = tokio::time::sleep(FETCH) => {}
        }
    }

    async fn respond(&self, request: &Request, answer: Result<Bytes, Refusal>, headers: HeaderMap) {
        // An answer that cannot be sent is a time-out for whoever asked.
        if let Err(error) = request.respond_with_headers(answer, headers).await {
            debug!(%error, subject = self.subject, "an answer could not be sent");
        }
    }
}
