//! Order of start, nothing else.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use agent_orchestrator::{Config, Deps, ServersOfPools};
use common::config::Parts;
use common::http::StartError;
use common::lifecycle::{Exit, Lifecycle};
use common::program::{ProcessSettings, Program, ProgramSettings};
use connect::models::{ModelSettings, discover};
use connect::platform::{self, FileSettings, LimitSettings, NatsSettings, RabbitmqSettings};
use domain::{SystemClock, SystemIds};
use state::agents::Agents;

const PROGRAM: Program = Program {
    name: "agent-orchestrator",
    version: env!("CARGO_PKG_VERSION"),
    prefixes: &["ORCHESTRATOR_", "NATS_", "RABBITMQ_"],
    commands: &[],
};

struct Settings {
    process: ProcessSettings,
    service: Config,
    nats: NatsSettings,
    rabbitmq: RabbitmqSettings,
    files: FileSettings,
    limits: LimitSettings,
    models: ModelSettings,
}

impl ProgramSettings for Settings {
    fn read(parts: &mut Parts) -> Self {
        Self {
            process: parts.take(),
            service: parts.take(),
            nats: parts.take(),
            rabbitmq: parts.take(),
            files: parts.take(),
            limits: parts.take(),
            models: parts.take(),
        }
    }

    fn process(&self) -> &ProcessSettings {
        &self.process
    }

    fn address(&self) -> SocketAddr {
        self.service.orchestrator_address
    }
}

fn main() -> ExitCode {
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
    // Tasks are accepted while the queue is away: they are recorded, and announced when it is back.
    let queue = platform::queue(&settings.rabbitmq, PROGRAM.name, false);
    let models = discover(&settings.models).await;
    lifecycle.spawn("models", models.watch.run(models.models.clone(), lifecycle.soft().clone()));
    let deps = Deps {
        agents: Arc::new(Agents::new(Arc::clone(&state), clock.clone())),
        state: Arc::clone(&state),
        queue: Arc::clone(&queue.queue),
        events: messages.events,
        blobs: platform::files(&settings.files),
        limits,
        models: models.models,
        servers: Arc::new(ServersOfPools::new(messages.requests)),
        clock,
        ids: Arc::new(SystemIds),
        probes: vec![record, messages.probe, queue.probe.clone()],
    };
    agent_orchestrator::start(settings.service, deps, lifecycle.clone()).await?;
    let exit = lifecycle.wait(settings.process.agent_shutdown_timeout.0).await;
    queue.close().await;
    state.close().await;
    Ok(exit)
}
