//! The front door: tasks come in by REST, are recorded and announced, and are watched until they end.
//!
//! | room | what is in it |
//! |---|---|
//! | `http` | one endpoint a file: extract, call one use case, translate |
//! | [`app`] | the use cases: the rules, without HTTP |
//! | `background` | reconcilers: announce, reap, expire, count, hear of pools |
//! | `config`, `deps` | what the service needs |
//!
//! Losing the process at any point loses nothing that was answered: what is recorded and not announced is announced by
//! the sweeper of any replica.

pub mod app;
mod background;
mod config;
mod deps;
mod http;

use std::net::SocketAddr;

use common::health::Health;
use common::http::{ServerOptions, StartError};
use common::lifecycle::Lifecycle;

pub use app::ServersOfPools;
pub use config::Config;
pub use deps::Deps;

/// Where the service listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The REST API.
    pub http: SocketAddr,
}

/// Starts the service; it runs until the lifecycle's soft stop.
pub async fn start(config: Config, deps: Deps, lifecycle: Lifecycle) -> Result<Addresses, StartError> {
    let tasks = app::Tasks::new(&config, &deps);
    let health = Health::of(&deps.probes);
    let options = ServerOptions {
        allowed_hosts: config.http_allowed_hosts.clone(),
        allowed_origins: config.http_allowed_origins.clone(),
        ..ServerOptions::new("agent-orchestrator", config.orchestrator_address)
    };
    let pools = app::Pools::new(std::sync::Arc::clone(&deps.clock));
    let api = http::api(&config, &deps, &tasks, &pools, lifecycle.soft().clone());
    let http = common::http::serve(options, api, health, lifecycle.clone()).await?;
    background::start(&config, &deps, &tasks, pools, &lifecycle);
    Ok(Addresses { http })
}
