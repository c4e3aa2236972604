//! Order of start, nothing else.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use agent_pool::{Config, Deps};
use common::config::Parts;
use common::http::StartError;
use common::lifecycle::{Exit, Lifecycle};
use common::program::{ProcessSettings, Program, ProgramSettings};
use connect::models::{ModelSettings, discover};
use connect::platform::{
    self, FileSettings, LimitSettings, NatsSettings, RabbitmqSettings, RedisSettings, ToolSettings,
};
use domain::{SystemClock, SystemIds};
use state::agents::Agents;
use tools::servers::ToolServers as _;

const PROGRAM: Program = Program {
    name: "agent-pool",
    version: env!("CARGO_PKG_VERSION"),
    prefixes: &["AGENT_POOL_", "AGENT_RENEW_", "AGENT_EGRESS_", "NATS_", "RABBITMQ_", "REDIS_"],
    commands: &[],
};

/// How long tool servers have to end once nothing uses them any more.
const SERVERS_END: Duration = Duration::from_secs(3);

struct Settings {
    process: ProcessSettings,
    service: Config,
    nats: NatsSettings,
    rabbitmq: RabbitmqSettings,
    redis: RedisSettings,
    files: FileSettings,
    limits: LimitSettings,
    models: ModelSettings,
    tools: ToolSettings,
}

impl ProgramSettings for Settings {
    fn read(parts: &mut Parts) -> Self {
        let settings = Self {
            process: parts.take(),
            service: parts.take(),
            nats: parts.take(),
            rabbitmq: parts.take(),
            redis: parts.take(),
            files: parts.take(),
            limits: parts.take(),
            models: parts.take(),
            tools: parts.take(),
        };
        let (drain, stop) = (settings.service.agent_drain_timeout, settings.process.agent_shutdown_timeout);
        if drain.0 >= stop.0 {
            parts.refuse(format!("AGENT_DRAIN_TIMEOUT ({drain}) must be shorter than AGENT_SHUTDOWN_TIMEOUT ({stop})"));
        }
        settings
    }

    fn process(&self) -> &ProcessSettings {
        &self.process
    }

    fn address(&self) -> SocketAddr {
        self.service.agent_pool_address
    }
}

fn main() -> ExitCode {
    // A tool server's program is supervised by this binary, too.
    if let Some(code) = connect::tools::run_if_asked() {
        return code;
    }
    match PROGRAM.begin::<Settings>() {
        Ok(begun) => begun.serve(serve),
        Err(code) => code,
    }
}

async fn serve(settings: Settings, lifecycle: Lifecycle) -> Result<Exit, StartError> {
    let limits = settings.limits.read().map_err(|error| StartError::prepare(PROGRAM.name, &error))?;
    let clock = Arc::new(SystemClock::default());
    let messages = platform::messages(&settings.nats, PROGRAM.name).await;
    let messages = messages.map_err(|error| StartError::prepare(PROGRAM.name, &error))?;
    let (state, record) = platform::remote_record(&messages);
    let queue = platform::queue(&settings.rabbitmq, PROGRAM.name, true);
    let shared = platform::cache(&settings.redis).map_err(|error| StartError::prepare(PROGRAM.name, &error))?;
    let models = discover(&settings.models).await;
    if let Some(shared) = &shared {
        models.models.share_rates(Arc::clone(&shared.cache));
    }
    lifecycle.spawn("models", models.watch.run(models.models.clone(), lifecycle.soft().clone()));
    let (toolkit, servers) = platform::tools(&settings.tools, &state, &(clock.clone() as _));
    lifecycle.spawn("tool servers", servers.clone().run(lifecycle.soft().clone()));
    let mut probes = vec![record, messages.probe, queue.probe.clone(), servers.probe()];
    probes.extend(shared.map(|shared| shared.probe));
    let deps = Deps {
        agents: Arc::new(Agents::new(Arc::clone(&state), clock.clone())),
        state: Arc::clone(&state),
        queue: Arc::clone(&queue.queue),
        events: messages.events,
        requests: messages.requests,
        blobs: platform::files(&settings.files),
        limits,
        models: models.models,
        toolkit,
        servers: servers.clone(),
        prepared: servers.prepared().clone(),
        clock,
        ids: Arc::new(SystemIds),
        probes,
    };
    agent_pool::start(settings.service, deps, &lifecycle).await?;
    let exit = lifecycle.wait(settings.process.agent_shutdown_timeout.0).await;
    // They end with us in any case; this is the orderly way.
    let _ = tokio::time::timeout(SERVERS_END, servers.shutdown()).await;
    queue.close().await;
    state.close().await;
    Ok(exit)
}
