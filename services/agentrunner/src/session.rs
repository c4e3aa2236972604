//! A command's way to a platform: the one that was named, the one of the data folder, the usual one, or one in this
//! process for as long as the command takes.

use std::path::Path;
use std::time::Duration;

use client::Client;
use common::telemetry::{self, Guard, TelemetryOptions};

use crate::context::Context;
use crate::exit::CommandError;
use crate::platform::discovery::{CONFIG_SERVICE, Running};
use crate::platform::{Plan, Platform, PortChoice, Settings};

/// Where a platform listens when nobody says otherwise.
pub const USUAL_URL: &str = "http://127.0.0.1:8003";
const USUAL_CONFIG_URL: &str = "http://127.0.0.1:8002";

/// How long tasks of a command's own platform may go on when it ends, to reach their next step.
const SHORT_DRAIN: Duration = Duration::from_secs(1);

/// What a command needs of a platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need<'a> {
    /// To look at the record and write to it.
    Record,
    /// To have agents work: one of them, or any.
    Work(Option<&'a str>),
}

/// A platform that answers.
pub struct Session {
    /// Speaks with it.
    pub client: Client,
    /// Its orchestrator.
    pub url: String,
    /// It runs in this process.
    own: Option<Own>,
}

struct Own {
    platform: Platform,
    timeout: Duration,
    _telemetry: Guard,
}

impl Session {
    /// Finds a platform, or starts one.
    pub async fn open(context: &Context, need: Need<'_>) -> Result<Self, CommandError> {
        if let Some(found) = Self::running(context, need).await? {
            return Ok(found);
        }
        if need == Need::Record && !context.data.is_dir() {
            return Err(nothing_here(&context.data));
        }
        Self::start(context, need).await
    }

    /// Finds a running platform; `None` when none was named and none answers.
    pub async fn running(context: &Context, need: Need<'_>) -> Result<Option<Self>, CommandError> {
        if let Some(url) = &context.url {
            let client = Client::new(url)?;
            if !client.healthy().await {
                let message = format!("no platform answers at {url}");
                return Err(CommandError::unreachable(message).hint("start one with `agentrunner dev`, or check --url"));
            }
            return Ok(Some(Self { client, url: url.clone(), own: None }));
        }
        if let Some(running) = Running::find(&context.data)
            && let Some(url) = running.url()
            && let Ok(client) = Client::new(url)
            && client.healthy().await
        {
            if running.transient && need != Need::Record {
                let message = format!(
                    "the data folder {} is in use by another agentrunner command (pid {})",
                    context.data.display(),
                    running.pid
                );
                let hint = "wait until it has ended, or run `agentrunner dev`: all commands then share one platform";
                return Err(CommandError::unreachable(message).hint(hint));
            }
            let client = match running.urls.get(CONFIG_SERVICE) {
                Some(configs) => client.with_config_service(configs)?,
                None => client,
            };
            return Ok(Some(Self { client, url: url.to_owned(), own: None }));
        }
        if context.data_named {
            return Ok(None);
        }
        let client = Client::new(USUAL_URL)?.with_config_service(USUAL_CONFIG_URL)?;
        // Something else may listen there: only a platform lists agents.
        if client.healthy().await && client.agents().await.is_ok() {
            return Ok(Some(Self { client, url: USUAL_URL.to_owned(), own: None }));
        }
        Ok(None)
    }

    async fn start(context: &Context, need: Need<'_>) -> Result<Self, CommandError> {
        let mut settings = load(context)?;
        settings.listen(Some([127, 0, 0, 1].into()), PortChoice::Random);
        // Whoever typed a command waits for its end: other tasks are given back soon, and lose at most a model call.
        let drain = &mut settings.pool.agent_drain_timeout;
        drain.0 = drain.0.min(SHORT_DRAIN);
        let telemetry = quiet_telemetry(&settings)?;
        let (models, watch) = match need {
            Need::Work(agent) => {
                let prepared = crate::models::prepare(context, &settings, agent).await?;
                (prepared.models, Some(prepared.watch))
            }
            Need::Record => (llm::Models::default(), None),
        };
        let plan = Plan { data: context.data.clone(), pool: need != Need::Record, transient: true };
        let platform = Platform::start(&settings, &plan, models).await?;
        if let Some(watch) = watch {
            platform.follow_models(watch);
        }
        let url = platform.url().to_owned();
        let client = Client::new(&url)?;
        let client = match platform.urls.get(CONFIG_SERVICE) {
            Some(configs) => client.with_config_service(configs)?,
            None => client,
        };
        let timeout = settings.process.agent_shutdown_timeout.0;
        Ok(Self { client, url, own: Some(Own { platform, timeout, _telemetry: telemetry }) })
    }

    /// Tells whether the platform ends with this command.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// The platform, when it runs in this process.
    pub fn platform(&self) -> Option<&Platform> {
        self.own.as_ref().map(|own| &own.platform)
    }

    /// Stops the platform, if it runs in this process; what is not finished goes on when one is started again.
    ///
    /// An interrupt cuts it short, which costs no more than any other death of the process.
    pub async fn close(self) {
        let Some(own) = self.own else { return };
        tokio::select! {
            _ = own.platform.stop(own.timeout) => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
}

/// Reads the settings of a platform in this process.
pub fn load(context: &Context) -> Result<Settings, CommandError> {
    let mut settings = Settings::load().map_err(|error| CommandError::usage(error.to_string()))?;
    settings.agents_dir(context.agents.as_deref());
    Ok(settings)
}

/// Logs nothing but errors, unless LOG_LEVEL asks for more: the command's own output is what is wanted.
pub fn quiet_telemetry(settings: &Settings) -> Result<Guard, CommandError> {
    init_telemetry(settings, "error")
}

/// Sets up logs with a level for when none is set.
pub fn init_telemetry(settings: &Settings, level: &str) -> Result<Guard, CommandError> {
    let chosen = &settings.process.log_level;
    let options = TelemetryOptions {
        log_level: if chosen.is_empty() { level.to_owned() } else { chosen.clone() },
        log_format: settings.process.log_format,
        ..TelemetryOptions::new("agentrunner")
    };
    telemetry::init(&options).map_err(|error| CommandError::usage(error.to_string()))
}

fn nothing_here(data: &Path) -> CommandError {
    CommandError::unreachable(format!("no platform runs, and there is no data folder {}", data.display()))
        .hint("start one with `agentrunner dev`, name one with --url, or name its folder with --data-dir")
}
