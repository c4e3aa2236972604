//! The agents' folder as a service: discovers `*.yml`, and publishes what is right in them as immutable versions.
//!
//! | room | what is in it |
//! |---|---|
//! | `app` | the folder as it is, what changed in it, and what follows for the agents: the rules |
//! | `background` | wakes up when something changes, and every second all the same |
//! | `http` | one endpoint a file |
//!
//! A file that is wrong, half-written or gone wrong changes nothing but the list of errors: the agent's last good version
//! stays. What a file said before a restart is in the record, so that this holds across restarts, too.

mod app;
mod background;
mod config;
mod deps;
mod http;

use std::net::SocketAddr;
use std::sync::Arc;

use common::health::Health;
use common::http::{ServerOptions, StartError};
use common::lifecycle::Lifecycle;

pub use app::catalogue::{Catalogue, CatalogueEntry, EntryStatus, View};
pub use config::Config;
pub use deps::Deps;

use app::reconciler::Reconciler;

/// Where the service listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The REST API.
    pub http: SocketAddr,
}

/// Starts the service; it runs until the lifecycle's soft stop.
///
/// What is in the folder is published when this returns, unless the record cannot be reached: then that is tried again
/// in the background, and the service is not ready until it is done.
pub async fn start(config: Config, deps: Deps, lifecycle: &Lifecycle) -> Result<Addresses, StartError> {
    start_with(config, deps, Catalogue::default(), lifecycle).await
}

/// Starts the service with a catalogue that the caller looks into, too.
pub async fn start_with(
    config: Config,
    deps: Deps,
    catalogue: Catalogue,
    lifecycle: &Lifecycle,
) -> Result<Addresses, StartError> {
    let mut reconciler = Reconciler::new(config.agent_config_dir.clone(), &deps, catalogue.clone());
    // Begins before the first look, so that no change falls between the two.
    let watcher = background::watcher::Wakeups::watch(&config.agent_config_dir);
    let health = Health::of(&deps.probes);
    let loaded = catalogue.clone();
    health.add("agents", true, move || {
        let loaded = loaded.view().loaded;
        async move { if loaded { Ok(()) } else { Err("the agents' files are not recorded yet".to_owned()) } }
    });
    let options = ServerOptions {
        allowed_hosts: config.http_allowed_hosts.clone(),
        allowed_origins: config.http_allowed_origins.clone(),
        ..ServerOptions::new("config-service", config.config_service_address)
    };
    let api = http::api(http::App { agents: Arc::clone(&deps.agents), catalogue, servers: Arc::clone(&deps.servers) });
    let http = common::http::serve(options, api, health, lifecycle.clone()).await?;
    let first = background::watcher::first_round(&mut reconciler, lifecycle.soft()).await;
    let poll = config.config_service_poll_interval.0;
    let soft = lifecycle.soft().clone();
    lifecycle.spawn("agents' folder", background::watcher::run(reconciler, watcher, first, poll, soft));
    Ok(Addresses { http })
}
