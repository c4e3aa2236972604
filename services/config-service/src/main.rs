//! Order of start, nothing else.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use common::config::Parts;
use common::http::StartError;
use common::lifecycle::{Exit, Lifecycle};
use common::program::{ProcessSettings, Program, ProgramSettings};
use config_service::{Config, Deps};
use connect::platform::{self, NatsSettings, ToolSettings};
use domain::SystemClock;
use state::agents::Agents;

const PROGRAM: Program = Program {
    name: "config-service",
    version: env!("CARGO_PKG_VERSION"),
    prefixes: &["CONFIG_SERVICE_", "NATS_"],
    commands: &[],
};

struct Settings {
    process: ProcessSettings,
    service: Config,
    nats: NatsSettings,
    tools: ToolSettings,
}

impl ProgramSettings for Settings {
    fn read(parts: &mut Parts) -> Self {
        Self { process: parts.take(), service: parts.take(), nats: parts.take(), tools: parts.take() }
    }

    fn process(&self) -> &ProcessSettings {
        &self.process
    }

    fn address(&self) -> SocketAddr {
        self.service.config_service_address
    }
}

fn main() -> ExitCode {
    match PROGRAM.begin::<Settings>() {
        Ok(begun) => begun.serve(serve),
        Err(code) => code,
    }
}

async fn serve(settings: Settings, lifecycle: Lifecycle) -> Result<Exit, StartError> {
    let clock = Arc::new(SystemClock::default());
    let messages = platform::messages(&settings.nats, PROGRAM.name).await;
    let messages = messages.map_err(|error| StartError::prepare(PROGRAM.name, &error))?;
    let (state, record) = platform::remote_record(&messages);
    let deps = Deps {
        agents: Arc::new(Agents::new(Arc::clone(&state), clock.clone())),
        state: Arc::clone(&state),
        events: messages.events,
        servers: settings.tools.servers(),
        clock,
        probes: vec![record, messages.probe],
    };
    config_service::start(settings.service, deps, &lifecycle).await?;
    let exit = lifecycle.wait(settings.process.agent_shutdown_timeout.0).await;
    state.close().await;
    Ok(exit)
}
