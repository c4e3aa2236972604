//! The record's own service: versioned values over REST, statistics, and retention.
//!
//! | room | what is in it |
//! |---|---|
//! | `app` | the rules of values: names, reserved scopes, conditions |
//! | `background` | the retention loop |
//! | `http` | one endpoint a file |
//!
//! Tasks are not touched here: pools and the orchestrator reach them through the `State` port.

mod app;
mod background;
mod config;
mod deps;
mod http;

use std::net::SocketAddr;

use common::health::Health;
use common::http::{ServerOptions, StartError};
use common::lifecycle::Lifecycle;

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
    let health = Health::of(&deps.probes);
    let options = ServerOptions {
        allowed_hosts: config.http_allowed_hosts.clone(),
        allowed_origins: config.http_allowed_origins.clone(),
        ..ServerOptions::new("state-manager", config.state_manager_address)
    };
    let http = common::http::serve(options, http::api(&deps), health, lifecycle.clone()).await?;
    lifecycle.spawn("retention", background::retention::run(config, deps, lifecycle.soft().clone()));
    Ok(Addresses { http })
}
