//! A pool: claims ready tasks of one execution mode and runs the agent loop for them.
//!
//! Any number of replicas may run. What a replica holds it renews; what it cannot finish when it stops it gives back;
//! what it holds when it dies the reaper takes away. No run depends on a message being delivered.
//!
//! Rooms: `app` (the worker and its runs), `consumers` (ready tasks, cancellations, questions about tool servers),
//! `background` (renewal, drain, reports), `http` (statistics).

mod app;
mod background;
mod config;
mod consumers;
mod deps;
mod http;

use std::net::SocketAddr;
use std::sync::Arc;

use agent::{Announcer, Driver, DriverParts};
use common::health::Health;
use common::http::{ServerOptions, StartError, serve};
use common::lifecycle::Lifecycle;
use domain::WorkerId;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use app::RunCounts;
pub use config::Config;
pub use deps::Deps;
pub use http::PoolStatus;

use app::{Identity, Runs, Worker};

/// Where a pool listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Health, metrics and statistics.
    pub http: SocketAddr,
}

/// Starts a pool; it stops with `lifecycle`.
pub async fn start(config: Config, deps: Deps, lifecycle: &Lifecycle) -> Result<Addresses, StartError> {
    let announcer = Announcer { queue: Arc::clone(&deps.queue), events: Arc::clone(&deps.events) };
    let driver = Driver::new(DriverParts {
        state: Arc::clone(&deps.state),
        agents: deps.agents,
        announcer: announcer.clone(),
        blobs: deps.blobs,
        limits: deps.limits,
        models: deps.models,
        toolkit: deps.toolkit,
        clock: Arc::clone(&deps.clock),
        ids: Arc::clone(&deps.ids),
    });
    let worker = Arc::new(Worker {
        id: WorkerId(deps.ids.uuid()),
        mode: config.agent_pool_mode,
        state: Arc::clone(&deps.state),
        announcer,
        driver,
        clock: deps.clock,
        runs: Runs::default(),
    });
    let tracker = TaskTracker::new();
    let (soft, hard) = (lifecycle.soft().clone(), lifecycle.hard().clone());
    let drained = CancellationToken::new();

    let health = Health::of(&deps.probes);
    let name = match config.agent_pool_mode {
        domain::ExecutionMode::Autonomous => "autonomous-agent-pool",
        domain::ExecutionMode::Collaborative => "collaborative-agent-pool",
        domain::ExecutionMode::Continuous => "continuous-agent-runner",
    };
    let options = ServerOptions {
        allowed_hosts: config.http_allowed_hosts.clone(),
        allowed_origins: config.http_allowed_origins.clone(),
        ..ServerOptions::new(name, config.agent_pool_address)
    };
    let api = http::routes(Arc::clone(&worker), config.agent_pool_capacity);
    let address = serve(options, api, health, lifecycle.clone()).await?;

    let taken = consumers::ready_tasks::consume(
        Arc::clone(&worker),
        deps.queue,
        config.agent_pool_capacity,
        tracker.clone(),
        soft.clone(),
    );
    let (prepared, stop) = (deps.prepared.clone(), soft.clone());
    lifecycle.spawn("ready-tasks", async move {
        tokio::select! {
            () = stop.cancelled() => return,
            () = prepared.cancelled() => {}
        }
        taken.await;
    });
    let events = Arc::clone(&deps.events);
    lifecycle.spawn("cancellations", consumers::cancellations::consume(Arc::clone(&worker), events, drained.clone()));
    lifecycle
        .spawn("tool servers' questions", consumers::tool_servers::serve(deps.servers, deps.requests, soft.clone()));
    let identity =
        Identity { host: Identity::host(), started_at: worker.clock.now(), capacity: config.agent_pool_capacity };
    lifecycle.spawn(
        "reports",
        background::reports::tell(
            Arc::clone(&worker),
            identity,
            deps.events,
            deps.prepared,
            soft.clone(),
            drained.clone(),
        ),
    );
    // Leases are renewed until the last run has ended: a drain may take longer than a lease.
    lifecycle.spawn(
        "renewal",
        background::renewal::renew(
            Arc::clone(&worker),
            config.agent_renew_interval.0,
            config.agent_lease.0,
            drained.clone(),
        ),
    );
    let draining = Arc::clone(&worker);
    lifecycle.spawn("drain", async move {
        background::drain::drain(draining, tracker, config.agent_drain_timeout.0, soft, hard).await;
        drained.cancel();
    });
    tracing::info!(worker.id = %worker.id, mode = %worker.mode, capacity = config.agent_pool_capacity, "pool started");
    Ok(Addresses { http: address })
}
