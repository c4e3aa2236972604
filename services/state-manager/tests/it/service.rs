//! A state manager on a record of its own, with a clock that stands still.

use std::sync::Arc;
use std::time::Duration;

use common::health::Probe;
use common::lifecycle::Lifecycle;
use domain::{HumanDuration, ManualClock, Timestamp};
use reqwest::{Client, Method, Response};
use serde_json::Value;
use state::State;
use state_manager::{Config, Deps};
use state_sqlite::{SqliteOptions, SqliteState};

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Service {
    pub(crate) state: Arc<dyn State>,
    pub(crate) clock: Arc<ManualClock>,
    lifecycle: Lifecycle,
    client: Client,
    url: String,
    _data: tempfile::TempDir,
}

impl Service {
    pub(crate) async fn start() -> Self {
        common::tls::install();
        let data = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at("2026-05-09T12:00:00Z".parse::<Timestamp>().unwrap()));
        let (options, of) = (SqliteOptions::new(data.path()), clock.clone());
        let state: Arc<dyn State> =
            tokio::task::spawn_blocking(move || SqliteState::open(options, of)).await.unwrap().unwrap();
        let config = Config {
            state_manager_address: ([127, 0, 0, 1], 0).into(),
            state_manager_purge_interval: HumanDuration(Duration::from_millis(100)),
            state_manager_purge_rows: 3,
            ..Config::default()
        };
        let lifecycle = Lifecycle::new();
        let probes = vec![Probe::record("state", &state)];
        let deps = Deps { state: state.clone(), clock: clock.clone(), probes };
        let addresses = state_manager::start(config, deps, lifecycle.clone()).await.unwrap();
        let client = Client::builder().timeout(PATIENCE).build().unwrap();
        Self { state, clock, lifecycle, client, url: format!("http://{}", addresses.http), _data: data }
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        Answer::of(request.send().await.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], "").await
    }

    pub(crate) async fn put(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.ask(Method::PUT, path, headers, body).await
    }

    pub(crate) async fn delete(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask(Method::DELETE, path, headers, "").await
    }

    /// Stops the service and its record; nothing may be left behind.
    pub(crate) async fn stop(self) {
        self.lifecycle.shutdown();
        let exit = self.lifecycle.wait(PATIENCE).await;
        assert_eq!(exit.code(), 0, "{exit:?}");
        self.state.close().await;
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Self { status, headers, body }
    }

    pub(crate) fn etag(&self) -> &str {
        self.headers["etag"].to_str().unwrap()
    }

    /// Checks that it is a problem of this kind.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, slug: &str) {
        assert_eq!((self.status, &self.body["type"]), (status, &Value::String(format!("/errors/{slug}"))), "{self:?}");
    }
}
