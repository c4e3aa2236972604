//! The services API of NATS: who serves what, how often, how long it takes.
//!
//! The client's own implementation is not used because it gives up what is on its way when it stops serving.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{Message, Subscriber};
use bus::BusError;
use bytes::Bytes;
use domain::{Clock, SystemClock};
use futures::StreamExt;
use futures::stream::select_all;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::NatsOptions;
use crate::link::Link;

/// How a service introduces itself, until it is dropped.
pub(crate) struct Service {
    card: Arc<Card>,
    _stop: DropGuard,
}

struct Card {
    name: String,
    id: String,
    about: Value,
    started: String,
    endpoints: Mutex<BTreeMap<String, Figures>>,
}

/// What is known about an endpoint.
#[derive(Default)]
struct Figures {
    subject: String,
    group: String,
    servers: usize,
    requests: u64,
    errors: u64,
    last_error: String,
    time: Duration,
}

impl Service {
    /// Begins to answer whoever looks for services.
    pub(crate) async fn start(link: &Link, options: &NatsOptions, name: &str) -> Result<Self, BusError> {
        let inbox = link.client.new_inbox();
        let id = inbox.rsplit_once('.').map_or(inbox.as_str(), |(_, id)| id).to_owned();
        let about = json!({
            "name": name, "id": id, "version": env!("CARGO_PKG_VERSION"),
            "metadata": { "prefix": options.prefix, "process": options.name },
        });
        let subjects = ["$SRV.*".to_owned(), format!("$SRV.*.{name}"), format!("$SRV.*.{name}.{id}")];
        let mut questions = Vec::new();
        for subject in subjects {
            questions.push(link.subscribe(subject).await?);
        }
        let started = SystemClock::default().now().to_rfc3339();
        let card = Arc::new(Card { name: name.to_owned(), id, about, started, endpoints: Mutex::default() });
        let stop = CancellationToken::new();
        let (answering, stopped, link) = (card.clone(), stop.clone(), link.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = link.closed.cancelled() => {}
                () = answering.answer(&link, questions) => {}
            }
        });
        Ok(Self { card, _stop: stop.drop_guard() })
    }

    pub(crate) fn join(&self, endpoint: &str, subject: &str, group: &str) {
        self.card.edit(endpoint, |figures| {
            figures.servers += 1;
            (figures.subject, figures.group) = (subject.to_owned(), group.to_owned());
        });
    }

    /// Leaves; true when no endpoint is left.
    pub(crate) fn leave(&self, endpoint: &str) -> bool {
        let mut endpoints = self.card.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(figures) = endpoints.get_mut(endpoint) {
            figures.servers -= 1;
            if figures.servers == 0 {
                endpoints.remove(endpoint);
            }
        }
        endpoints.is_empty()
    }

    /// Counts a request.
    pub(crate) fn served(&self, endpoint: &str, took: Duration, error: Option<&str>) {
        self.card.edit(endpoint, |figures| {
            figures.requests += 1;
            figures.time += took;
            if let Some(error) = error {
                figures.errors += 1;
                error.clone_into(&mut figures.last_error);
            }
        });
    }
}

impl Card {
    fn edit(&self, endpoint: &str, change: impl FnOnce(&mut Figures)) {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        change(endpoints.entry(endpoint.to_owned()).or_default());
    }

    async fn answer(&self, link: &Link, questions: Vec<Subscriber>) {
        let mut questions = select_all(questions);
        while let Some(question) = questions.next().await {
            if let (Some(answer), Some(reply)) = (self.reply(&question), question.reply) {
                // Whoever asked asks again.
                let _ = link.client.publish(reply, Bytes::from(answer.to_string())).await;
            }
        }
    }

    fn reply(&self, question: &Message) -> Option<Value> {
        let verb = question.subject.split('.').nth(1)?;
        let mut answer = self.about.clone();
        match verb {
            "PING" => answer["type"] = json!("io.nats.micro.v1.ping_response"),
            "INFO" => {
                answer["type"] = json!("io.nats.micro.v1.info_response");
                answer["description"] = json!(format!("Answers requests of `{}`", self.name));
                answer["endpoints"] = self.endpoints(|_| json!({ "metadata": {} }));
            }
            "STATS" => {
                answer["type"] = json!("io.nats.micro.v1.stats_response");
                answer["started"] = json!(self.started);
                answer["endpoints"] = self.endpoints(|figures| {
                    let time = figures.time.as_nanos() as u64;
                    json!({
                        "num_requests": figures.requests, "num_errors": figures.errors, "last_error": figures.last_error,
                        "processing_time": time, "average_processing_time": time / figures.requests.max(1),
                    })
                });
            }
            _ => return None,
        }
        Some(answer)
    }

    fn endpoints(&self, show: impl Fn(&Figures) -> Value) -> Value {
        let endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints
            .iter()
            .map(|(name, figures)| {
                let mut shown = show(figures);
                shown["name"] = json!(name);
                shown["subject"] = json!(figures.subject);
                shown["queue_group"] = json!(figures.group);
                shown
            })
            .collect()
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("name", &self.card.name).field("id", &self.card.id).finish_non_exhaustive()
    }
}
