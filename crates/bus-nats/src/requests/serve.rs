//! Answering: one NATS service a first word of a subject, one endpoint a subject.

use std::collections::HashMap;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_nats::service::error::Error as Refusal;
use async_nats::service::{NATS_SERVICE_ERROR, NATS_SERVICE_ERROR_CODE};
use async_nats::{HeaderMap, Message, Subscriber};
use bus::{BusError, RequestHandler, ServeGuard};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span, warn};

use super::discovery::Service;
use super::{FAILED, OVERLOADED, TOO_LARGE, UNFETCHED, full_subject, refusal};
use crate::NatsOptions;
use crate::carry::{self, CarryError};
use crate::inbox::{BEAT, WORKING};
use crate::link::Link;

/// How long a large answer waits to be fetched.
const FETCH: Duration = Duration::from_secs(60);

/// All servers of a subject are in one group, of which each request goes to one.
const GROUP: &str = "servers";
/// The server of NATS ends a subscription at once when it was to end after more messages than this has digits for, and the
/// client does not: what is on its way still comes in.
const AFTER_ALL: u64 = u64::MAX;

/// The services of this process.
#[derive(Default)]
pub(crate) struct Services {
    /// By the first word of their subjects.
    running: Mutex<HashMap<String, Running>>,
}

struct Running {
    service: Arc<Service>,
    room: Arc<Semaphore>,
}

/// What one server of a subject works with.
struct Server {
    link: Link,
    service: Arc<Service>,
    subject: String,
    endpoint: String,
    handler: Arc<dyn RequestHandler>,
    room: Arc<Semaphore>,
    max_body_bytes: usize,
}

impl Services {
    /// Serves `subject` until the guard is dropped: then what was sent here is still answered, and nothing else is sent here.
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
        let (subscriber, service, room) = services.join(link, options, &word, subject).await?;
        // So that a request of any process finds it from now on; without a connection it is found as soon as there is one.
        let _ = link.round_trip().await;
        let server = Arc::new(Server {
            link: link.clone(),
            service,
            subject: subject.to_owned(),
            endpoint: endpoint(subject),
            handler,
            room,
            max_body_bytes: options.max_body_bytes,
        });
        let stop = link.closed.child_token();
        let (stopped, services) = (stop.clone(), services.clone());
        tokio::spawn(async move {
            let left = server.endpoint.clone();
            server.run(subscriber, stopped).await;
            services.leave(&word, &left).await;
        });
        Ok(ServeGuard::new(move || stop.cancel()))
    }

    async fn join(
        &self,
        link: &Link,
        options: &NatsOptions,
        word: &str,
        subject: &str,
    ) -> Result<(Subscriber, Arc<Service>, Arc<Semaphore>), BusError> {
        let mut running = self.running.lock().await;
        let full_subject = full_subject(&options.prefix, subject);
        let subscriber = link.subscribe_shared(full_subject.clone(), GROUP).await?;
        if !running.contains_key(word) {
            let service = Arc::new(Service::start(link, options, word).await?);
            let room = Arc::new(Semaphore::new(options.concurrent_requests));
            running.insert(word.to_owned(), Running { service, room });
        }
        let Some(entry) = running.get(word) else { return Err(BusError::Closed) };
        entry.service.join(&endpoint(subject), &full_subject, GROUP);
        Ok((subscriber, entry.service.clone(), entry.room.clone()))
    }

    async fn leave(&self, word: &str, endpoint: &str) {
        let mut running = self.running.lock().await;
        if running.get(word).is_some_and(|entry| entry.service.leave(endpoint)) {
            running.remove(word);
        }
    }
}

/// What a subject is called in discovery, where names have no dots.
fn endpoint(subject: &str) -> String {
    subject.replace('.', "-")
}

impl Server {
    async fn run(self: Arc<Self>, mut subscriber: Subscriber, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                request = subscriber.next() => match request {
                    Some(request) => self.clone().take(request).await,
                    None => return,
                },
            }
        }
        // The round trip comes back behind everything that was on its way.
        let _ = subscriber.unsubscribe_after(AFTER_ALL).await;
        let _ = self.link.round_trip().await;
        let _ = subscriber.unsubscribe().await;
        while let Some(request) = subscriber.next().await {
            self.clone().take(request).await;
        }
    }

    async fn take(self: Arc<Self>, request: Message) {
        if let Ok(permit) = self.room.clone().try_acquire_owned() {
            let traceparent = carry::header(&request, "traceparent").unwrap_or_default();
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

    async fn answer(&self, request: &Message) {
        let begin = Instant::now();
        let answer = tokio::select! {
            biased;
            answer = self.handle(request) => answer,
            never = self.beat(request) => match never {},
        };
        let (outcome, error) = match &answer {
            Ok(_) => ("answered", None),
            Err(refused) => ("failed", Some(refused.status.clone())),
        };
        metrics::counter!("bus_served_total", "outcome" => outcome).increment(1);
        self.service.served(&self.endpoint, begin.elapsed(), error.as_deref());
        match answer {
            Ok(answer) if answer.len() > carry::inline_limit(&self.link.client) => self.lend(request, answer).await,
            answer => self.respond(request, answer, HeaderMap::new()).await,
        }
    }

    /// Says every now and then that the request is at work, so that whoever asked learns soon of the end of this process.
    async fn beat(&self, request: &Message) -> Infallible {
        loop {
            tokio::time::sleep(BEAT).await;
            let mut headers = HeaderMap::new();
            headers.insert(WORKING, "1");
            self.respond(request, Ok(Bytes::new()), headers).await;
        }
    }

    async fn handle(&self, request: &Message) -> Result<Bytes, Refusal> {
        let body = carry::body(&self.link, request, self.max_body_bytes).await.map_err(|error| match error {
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
    async fn lend(&self, request: &Message, answer: Bytes) {
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

    async fn respond(&self, request: &Message, answer: Result<Bytes, Refusal>, mut headers: HeaderMap) {
        let Some(reply) = request.reply.clone() else { return };
        let body = answer.unwrap_or_else(|refusal| {
            headers.insert(NATS_SERVICE_ERROR, refusal.status.as_str());
            headers.insert(NATS_SERVICE_ERROR_CODE, refusal.code.to_string());
            Bytes::new()
        });
        let client = &self.link.client;
        let sent = if headers.is_empty() {
            client.publish(reply, body).await
        } else {
            client.publish_with_headers(reply, headers, body).await
        };
        // An answer that cannot be sent is a time-out for whoever asked.
        if let Err(error) = sent {
            debug!(%error, subject = self.subject, "an answer could not be sent");
        }
    }
}
