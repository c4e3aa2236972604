//! Real NATS and RabbitMQ, with a record in SQLite behind the first: what a service finds on the platform.

use std::sync::Arc;

use connect::platform::{self, Messages, NatsSettings};
use domain::{Clock, SystemClock};
use state::State;
use state_sqlite::{SqliteOptions, SqliteState};
use tokio_util::sync::CancellationToken;

use crate::process::parts;

/// What a service's process is told to find the backends.
pub(crate) struct Backends {
    pub(crate) settings: Vec<(&'static str, String)>,
    pub(crate) state: Arc<dyn State>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) messages: Messages,
    stop: CancellationToken,
    pub(crate) dir: tempfile::TempDir,
}

impl Backends {
    /// Starts them, if no test of this run did before, and answers calls of the record.
    pub(crate) async fn start() -> Self {
        common::tls::install();
        let (nats, rabbitmq) = (testkit::servers::nats().await, testkit::servers::rabbitmq().await);
        let [nats_user, nats_password, nats_host, nats_port, _] = parts(&nats.url());
        let [user, password, host, port, vhost] = parts(&rabbitmq.fresh_vhost().await);
        let dir = tempfile::tempdir().expect("a temporary folder");
        let name = dir.path().file_name().expect("it has a name").to_string_lossy().to_lowercase();
        let prefix: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        let nats_url = format!("nats://{nats_host}:{nats_port}");
        let nats = NatsSettings {
            nats_url: nats_url.clone(),
            nats_user: nats_user.clone(),
            nats_password: common::config::Secret::new(&nats_password),
            nats_prefix: prefix.clone(),
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let options = SqliteOptions::new(dir.path().join("data"));
        let state: Arc<dyn State> = SqliteState::open(options, Arc::clone(&clock)).expect("a record");
        let messages = platform::messages(&nats, "test").await.expect("the options are right");
        connected(&messages).await;
        let stop = CancellationToken::new();
        let requests = Arc::clone(&messages.requests);
        tokio::spawn(platform::serve_record(requests, Arc::clone(&state), stop.clone()));
        let settings = vec![
            ("NATS_URL", nats_url),
            ("NATS_USER", nats_user),
            ("NATS_PASSWORD", nats_password),
            ("NATS_PREFIX", prefix),
            ("RABBITMQ_HOST", host),
            ("RABBITMQ_PORT", port),
            ("RABBITMQ_VHOST", vhost),
            ("RABBITMQ_USER", user),
            ("RABBITMQ_PASSWORD", password),
            ("BLOBS_DIR", dir.path().join("blobs").to_string_lossy().into_owned()),
            ("AGENTRUNNER_PROBE", "false".to_owned()),
            ("AGENTRUNNER_SCRIPTS", dir.path().join("scripts").to_string_lossy().into_owned()),
        ];
        Self { settings, state, clock, messages, stop, dir }
    }

    /// The settings, and some more.
    pub(crate) fn with<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        self.settings.iter().map(|(name, value)| (*name, value.as_str())).chain(more.iter().copied()).collect()
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Whoever subscribes before the connection is made is told that it may have missed something.
async fn connected(messages: &Messages) {
    let health = common::health::Health::of(std::slice::from_ref(&messages.probe));
    let ready = async {
        while !health.report().await.ready {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::process::PATIENCE, ready).await.expect("NATS answers");
}
