//! The whole platform in one process: the order of start and of stop.
//!
//! It starts from the record outwards (record, services, pool) and stops the other way round: the pool first, so that
//! what it holds is finished or given back while everything that it needs still runs; the record last.

pub mod discovery;
mod settings;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::http::StartError;
use common::lifecycle::Lifecycle;
use config_service::Catalogue;
use connect::Ports;
use domain::agent::FileProblem;
use tokio_util::sync::CancellationToken;

use crate::exit::{CommandError, chain};
use discovery::{Announcement, CONFIG_SERVICE, ORCHESTRATOR, Running};

pub use settings::{PortChoice, ProcessConfig, Settings};

/// What of the platform is wanted.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The data folder.
    pub data: PathBuf,
    /// Whether tasks are run; without, the record can be looked at and written to.
    pub pool: bool,
    /// Whether it ends with the command that started it.
    pub transient: bool,
}

/// A running platform.
pub struct Platform {
    /// Where the services listen, by name.
    pub urls: BTreeMap<String, String>,
    /// The ports that it was made of.
    pub ports: Ports,
    catalogue: Catalogue,
    services: Lifecycle,
    pool: Lifecycle,
    _announcement: Announcement,
}

impl Platform {
    /// Starts everything; what had been started when it fails is stopped again.
    pub async fn start(settings: &Settings, plan: &Plan, models: llm::Models) -> Result<Self, CommandError> {
        let tools = settings.process.tools().map_err(|error| CommandError::usage(chain(&error)))?;
        let servers: Arc<[String]> = tools.servers.keys().cloned().collect();
        let limits = connect::read_limits(&settings.process.agentrunner_limits).map_err(|error| {
            CommandError::usage(format!("the limits are not known: {}", chain(&error)))
                .hint("correct the file, or name another one with AGENTRUNNER_LIMITS")
        })?;
        let embedded = connect::EmbeddedSettings {
            tools,
            compression_threshold: settings.process.state_compression_threshold,
            egress_allow_private: settings.process.agent_egress_allow_private.clone(),
            own_ports: settings.ports(),
            limits,
            models,
            ..connect::EmbeddedSettings::new(&plan.data)
        };
        let ports = connect::embedded(embedded).await.map_err(|error| CommandError::unreachable(chain(&error)))?;
        let (services, pool) = (Lifecycle::new(), Lifecycle::new());
        let catalogue = Catalogue::default();
        let started = start_services(settings, plan, &ports, servers, &catalogue, &services, &pool).await;
        let announced = started.and_then(|urls| Ok((announce(plan, &urls)?, urls)));
        match announced {
            Ok((announcement, urls)) => {
                Ok(Self { urls, ports, catalogue, services, pool, _announcement: announcement })
            }
            Err(error) => {
                stop(&services, &pool, &ports, Duration::from_secs(1)).await;
                Err(error)
            }
        }
    }

    /// Where the orchestrator listens.
    pub fn url(&self) -> &str {
        self.urls.get(ORCHESTRATOR).map_or("", String::as_str)
    }

    /// What is wrong with the agents' files.
    pub fn agent_problems(&self) -> Vec<FileProblem> {
        self.catalogue.errors()
    }

    /// Keeps the models as their file says, for as long as the platform runs.
    pub fn follow_models(&self, watch: connect::models::Watch) {
        let stop = self.services.soft().clone();
        self.services.spawn("models", watch.run(self.ports.models.clone(), stop));
    }

    /// Waits until a part of it died, which begins its end.
    pub async fn died(&self) {
        tokio::select! {
            () = self.services.soft().cancelled() => {}
            () = self.pool.soft().cancelled() => {}
        }
    }

    /// Stops everything within `timeout`; the exit code is 0 when every part stopped in order.
    pub async fn stop(self, timeout: Duration) -> i32 {
        stop(&self.services, &self.pool, &self.ports, timeout).await
    }
}

async fn stop(services: &Lifecycle, pool: &Lifecycle, ports: &Ports, timeout: Duration) -> i32 {
    // What requests under way get after the pool.
    let reserve = (timeout / 5).min(Duration::from_secs(5));
    pool.shutdown();
    let pool_exit = pool.wait(timeout.saturating_sub(reserve)).await;
    services.shutdown();
    let services_exit = services.wait(reserve).await;
    // They end with us in any case; this is the orderly way.
    let _ = tokio::time::timeout(Duration::from_secs(3), ports.servers.shutdown()).await;
    ports.state.close().await;
    pool_exit.code().max(services_exit.code())
}

async fn start_services(
    settings: &Settings,
    plan: &Plan,
    ports: &Ports,
    servers: Arc<[String]>,
    catalogue: &Catalogue,
    services: &Lifecycle,
    pool: &Lifecycle,
) -> Result<BTreeMap<String, String>, CommandError> {
    let mut urls = BTreeMap::new();
    let states =
        state_manager::Deps { state: ports.state.clone(), clock: ports.clock.clone(), probes: ports.probes.clone() };
    let at = state_manager::start(settings.states.clone(), states, services.clone()).await.map_err(refused)?;
    urls.insert("state-manager".to_owned(), url(at.http));

    let configs = config_service::Deps {
        state: ports.state.clone(),
        agents: ports.agents.clone(),
        events: ports.events.clone(),
        servers,
        clock: ports.clock.clone(),
        probes: ports.probes.clone(),
    };
    let at = config_service::start_with(settings.configs.clone(), configs, catalogue.clone(), services)
        .await
        .map_err(refused)?;
    urls.insert(CONFIG_SERVICE.to_owned(), url(at.http));

    let orchestrator = orchestrator_deps(ports);
    let at = agent_orchestrator::start(settings.orchestrator.clone(), orchestrator, services.clone())
        .await
        .map_err(refused)?;
    urls.insert(ORCHESTRATOR.to_owned(), url(at.http));

    if plan.pool {
        // Its tools are known when the ports are.
        let prepared = CancellationToken::new();
        prepared.cancel();
        let deps = agent_pool::Deps {
            state: ports.state.clone(),
            agents: ports.agents.clone(),
            queue: ports.queue.clone(),
            events: ports.events.clone(),
            requests: ports.requests.clone(),
            blobs: ports.blobs.clone(),
            limits: ports.limits.clone(),
            models: ports.models.clone(),
            toolkit: ports.toolkit.clone(),
            servers: ports.servers.clone(),
            prepared,
            clock: ports.clock.clone(),
            ids: ports.ids.clone(),
            probes: ports.probes.clone(),
        };
        let at = agent_pool::start(settings.pool.clone(), deps, pool).await.map_err(refused)?;
        urls.insert("agent-pool".to_owned(), url(at.http));
    }
    Ok(urls)
}

/// The orchestrator's share of the ports.
pub fn orchestrator_deps(ports: &Ports) -> agent_orchestrator::Deps {
    agent_orchestrator::Deps {
        state: ports.state.clone(),
        agents: ports.agents.clone(),
        queue: ports.queue.clone(),
        events: ports.events.clone(),
        blobs: ports.blobs.clone(),
        limits: ports.limits.clone(),
        models: ports.models.clone(),
        servers: ports.servers.clone(),
        clock: ports.clock.clone(),
        ids: ports.ids.clone(),
        probes: ports.probes.clone(),
    }
}

fn announce(plan: &Plan, urls: &BTreeMap<String, String>) -> Result<Announcement, CommandError> {
    let running = Running { pid: std::process::id(), transient: plan.transient, urls: urls.clone() };
    Announcement::write(&plan.data, &running).map_err(|error| {
        CommandError::unreachable(format!("the data folder {} cannot be written: {error}", plan.data.display()))
    })
}

fn refused(error: StartError) -> CommandError {
    let text = chain(&error);
    match error {
        StartError::Listen { service, address, source } => CommandError::unreachable(format!(
            "{service} cannot listen on {address}: {source}"
        ))
        .hint("another platform may be running (`agentrunner doctor` looks); `--port-offset 100` or `--ports random` avoids it"),
        StartError::Prepare { .. } => CommandError::unreachable(text),
    }
}

/// An address as others reach it: one that listens everywhere is reached on this machine.
fn url(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}
