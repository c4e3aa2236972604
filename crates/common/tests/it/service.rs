//! A small service to ask.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::response::sse::{Event, Sse};
use common::extract::{Path, Query, StrictJson};
use common::health::Health;
use common::http::{self, ServerOptions};
use common::lifecycle::{Exit, Lifecycle};
use common::page::Limit;
use common::problem::{self, Kind, Problem};
use common::trace::TraceContext;
use futures::StreamExt as _;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use utoipa_axum::{router::OpenApiRouter, routes};

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) health: Health,
    pub(crate) client: reqwest::Client,
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::with(|_| ()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut ServerOptions)) -> Self {
        common::tls::install();
        let lifecycle = Lifecycle::new();
        let health = Health::new();
        let mut options = ServerOptions::new("test", ([127, 0, 0, 1], 0).into());
        change(&mut options);
        let address = http::serve(options, api(lifecycle.clone()), health.clone(), lifecycle.clone()).await.unwrap();
        let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Self { address, lifecycle, health, client }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, json: &str) -> reqwest::Response {
        let request = self.client.post(self.url(path)).header("content-type", "application/json");
        request.body(json.to_owned()).send().await.unwrap()
    }

    /// Sends bytes as they are and returns what comes back until the server closes.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the server closes");
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) async fn stop(self) -> Exit {
        self.lifecycle.shutdown();
        self.lifecycle.wait(PATIENCE).await
    }
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Order {
    item: String,
    #[serde(default)]
    count: u8,
}

struct OrderError;

impl utoipa::IntoResponses for OrderError {
    fn responses() -> problem::Responses {
        problem::responses(&[Kind::UnknownTask, Kind::UnknownAgent, Kind::Overloaded])
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    limit: Option<Limit>,
}

fn api(lifecycle: Lifecycle) -> OpenApiRouter {
    let started = move || {
        let lifecycle = lifecycle.clone();
        async move {
            lifecycle.shutdown();
            // Longer than it takes to close what is idle.
            tokio::time::sleep(Duration::from_millis(200)).await;
            "finished"
        }
    };
    OpenApiRouter::new()
        .routes(routes!(order))
        .route("/orders/{id}", axum::routing::get(show))
        .route("/panic", axum::routing::get(panics))
        .route("/hang", axum::routing::get(std::future::pending::<()>))
        .route("/busy", axum::routing::get(busy))
        .route("/events", axum::routing::get(events))
        .route("/trace", axum::routing::get(trace))
        .route("/list", axum::routing::get(list))
        .route("/stop", axum::routing::get(started))
}

/// Orders something.
#[utoipa::path(post, path = "/orders", responses((status = 200), OrderError))]
async fn order(StrictJson(order): StrictJson<Order>) -> String {
    format!("{} {}", order.count, order.item.len())
}

async fn show(Path(id): Path<u32>) -> String {
    id.to_string()
}

async fn panics() {
    panic!("the handler's own words");
}

async fn busy() -> Problem {
    Problem::new(Kind::Overloaded).retry_after(Duration::from_millis(1200))
}

async fn trace(trace: TraceContext) -> String {
    trace.traceparent()
}

async fn list(Query(query): Query<ListQuery>) -> String {
    query.limit.unwrap_or_default().get().to_string()
}

async fn events() -> Sse<impl futures::Stream<Item = Result<Event, Infallible>>> {
    let first = futures::stream::once(async { Ok(Event::default().data("first")) });
    Sse::new(first.chain(futures::stream::pending()))
}
