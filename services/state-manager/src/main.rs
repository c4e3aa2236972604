//! Order of start, nothing else.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use common::config::Parts;
use common::http::StartError;
use common::lifecycle::{Exit, Lifecycle};
use common::program::{ProcessSettings, Program, ProgramSettings};
use connect::platform::{self, NatsSettings, PostgresSettings};
use domain::SystemClock;
use state_manager::{Config, Deps};

const PROGRAM: Program = Program {
    name: "state-manager",
    version: env!("CARGO_PKG_VERSION"),
    prefixes: &["STATE_MANAGER_", "POSTGRES_", "NATS_", "DB_"],
    commands: &["migrate up", "migrate down", "migrate status"],
};

struct Settings {
    process: ProcessSettings,
    service: Config,
    postgres: PostgresSettings,
    nats: NatsSettings,
}

impl ProgramSettings for Settings {
    fn read(parts: &mut Parts) -> Self {
        Self { process: parts.take(), service: parts.take(), postgres: parts.take(), nats: parts.take() }
    }

    fn process(&self) -> &ProcessSettings {
        &self.process
    }

    fn address(&self) -> SocketAddr {
        self.service.state_manager_address
    }
}

fn main() -> ExitCode {
    let begun = PROGRAM.begin::<Settings>();
    let migrate =
        async |command: &'static str, settings: Settings| platform::migrate(&settings.postgres, command).await;
    match begun.and_then(|begun| begun.command(migrate)) {
        Ok(begun) => begun.serve(serve),
        Err(code) => code,
    }
}

async fn serve(settings: Settings, lifecycle: Lifecycle) -> Result<Exit, StartError> {
    let clock = Arc::new(SystemClock::default());
    let (state, postgres) = platform::record(&settings.postgres, clock.clone());
    let messages = platform::messages(&settings.nats, PROGRAM.name).await;
    let messages = messages.map_err(|error| StartError::prepare(PROGRAM.name, &error))?;
    let deps = Deps { state: Arc::clone(&state), clock, probes: vec![postgres, messages.probe.clone()] };
    state_manager::start(settings.service, deps, lifecycle.clone()).await?;
    let served = platform::serve_record(messages.requests, Arc::clone(&state), lifecycle.soft().clone());
    lifecycle.spawn("record over requests", served);
    let exit = lifecycle.wait(settings.process.agent_shutdown_timeout.0).await;
    state.close().await;
    Ok(exit)
}
