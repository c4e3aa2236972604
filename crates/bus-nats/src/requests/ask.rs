//! Asking.

use std::time::Duration;

use async_nats::service::{NATS_SERVICE_ERROR, NATS_SERVICE_ERROR_CODE};
use async_nats::{HeaderMap, Message};
use bus::BusError;
use bytes::Bytes;

use super::{TOO_LARGE, full_subject};
use crate::NatsOptions;
use crate::carry::{self, CarryError};
use crate::link::{CallError, Link};

/// Asks whoever serves `subject`. Without a connection it waits for one, within the same time-out.
pub(crate) async fn ask(
    link: &Link,
    options: &NatsOptions,
    subject: &str,
    body: Bytes,
    timeout: Duration,
) -> Result<Bytes, BusError> {
    let asked = tokio::select! {
        biased;
        () = link.closed.cancelled() => Err(BusError::Closed),
        asked = tokio::time::timeout(timeout, exchange(link, options, subject, body)) => match asked {
            Ok(answered) => answered,
            Err(_) if !link.connected() => Err(link.unavailable()),
            Err(_) => Err(BusError::Timeout { subject: subject.to_owned(), millis: timeout.as_millis() as u64 }),
        },
    };
    metrics::counter!("bus_requests_total", "outcome" => outcome(&asked)).increment(1);
    asked
}

async fn exchange(link: &Link, options: &NatsOptions, subject: &str, body: Bytes) -> Result<Bytes, BusError> {
    let limit = options.max_body_bytes;
    if body.len() > limit {
        return Err(BusError::TooLarge { subject: subject.to_owned(), bytes: body.len(), limit });
    }
    link.wait_connected().await;
    let mut headers = HeaderMap::new();
    if let Some(traceparent) = options.traceparent.and_then(|current| current()) {
        headers.insert("traceparent", traceparent);
    }
    let (inline, held) = if body.len() <= carry::inline_limit(&link.client) {
        (body, None)
    } else {
        let size = body.len();
        let held = link.inbox.hold(body);
        carry::refer(&mut headers, &held, size);
        (Bytes::new(), Some(held))
    };
    let answer =
        link.call(full_subject(&options.prefix, subject), headers, inline).await.map_err(|error| match error {
            CallError::NoResponder => BusError::NoResponder { subject: subject.to_owned() },
            error => BusError::Unavailable(format!("{subject}: {error}")),
        })?;
    drop(held);
    read(link, subject, &answer, limit).await
}

async fn read(link: &Link, subject: &str, answer: &Message, limit: usize) -> Result<Bytes, BusError> {
    if let Some(code) = carry::header(answer, NATS_SERVICE_ERROR_CODE) {
        let status = carry::header(answer, NATS_SERVICE_ERROR).unwrap_or_default();
        if code.parse() == Ok(TOO_LARGE) {
            return Err(BusError::TooLarge { subject: subject.to_owned(), bytes: status.parse().unwrap_or(0), limit });
        }
        return Err(BusError::Unavailable(format!("whoever serves {subject} {status}")));
    }
    let body = carry::body(link, answer, limit).await;
    carry::release(link, answer).await;
    body.map_err(|error| match error {
        CarryError::TooLarge { bytes, limit } => BusError::TooLarge { subject: subject.to_owned(), bytes, limit },
        error => BusError::Unavailable(format!("the answer from {subject} could not be fetched: {error}")),
    })
}

fn outcome(asked: &Result<Bytes, BusError>) -> &'static str {
    match asked {
        Ok(_) => "answered",
        Err(BusError::NoResponder { .. }) => "no_responder",
        Err(BusError::Timeout { .. }) => "timeout",
        Err(BusError::TooLarge { .. }) => "too_large",
        Err(_) => "unavailable",
    }
}
