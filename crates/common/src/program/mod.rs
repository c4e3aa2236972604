//! What every service's `main` does in the same way: arguments, settings, telemetry, signals, exit codes.
//!
//! | exit code | what it says |
//! |---|---|
//! | 0 | it stopped in order, or did what its arguments asked for |
//! | 1 | a part of it died or did not stop in time, or the command failed |
//! | 2 | its arguments or settings are wrong; all that is wrong with them is on standard error |
//! | 3 | it could not start: its address is taken |
//! | 130, 143 | a second signal ended it at once |
//!
//! A backend that is down is none of these: a service starts, says so under `/health/ready`, and tries again.

mod arguments;
mod healthcheck;

use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::process::ExitCode;

use domain::HumanDuration;
use serde::{Deserialize, Serialize};

use crate::config::{LoadOptions, Loaded, Parts, Validate, load_parts};
use crate::lifecycle::{Exit, Lifecycle};
use crate::telemetry::{self, LogFormat, TelemetryOptions};
use crate::tls;

use arguments::Asked;

const FAILED: u8 = 1;
const WRONG: u8 = 2;
const CANNOT_START: u8 = 3;

/// The settings that every service has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessSettings {
    /// How long an orderly stop may take, from the first SIGTERM or SIGINT; a second one ends the process at once.
    pub agent_shutdown_timeout: HumanDuration,
    /// A level, or directives such as `info,state=debug`.
    pub log_level: String,
    /// `text` or `json`.
    pub log_format: LogFormat,
}

impl Default for ProcessSettings {
    fn default() -> Self {
        Self {
            agent_shutdown_timeout: HumanDuration::from_secs(30),
            log_level: "info".to_owned(),
            log_format: LogFormat::Text,
        }
    }
}

impl Validate for ProcessSettings {}

/// All settings of a service's process.
pub trait ProgramSettings: Sized {
    /// Takes its parts; called twice, so it must only take and compare.
    fn read(parts: &mut Parts) -> Self;

    /// The settings that every service has.
    fn process(&self) -> &ProcessSettings;

    /// Where `/health/ready` is served, for `healthcheck`.
    fn address(&self) -> SocketAddr;
}

/// A service as a process.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// The service's name; also its section in a file of settings.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Variables of the environment that begin with one of these are its own: an unknown one is refused as misspelt.
    pub prefixes: &'static [&'static str],
    /// What it can do beside serving, each as it is typed: `migrate up`.
    pub commands: &'static [&'static str],
}

/// A process that knows its settings and is to do something.
pub struct Begun<S> {
    program: Program,
    settings: S,
    command: Option<&'static str>,
}

impl Program {
    /// Reads arguments and settings; `Err` when the process has nothing more to do.
    ///
    /// `--version`, `--help`, `--print-config` and `healthcheck` are answered here. Whatever is wrong is told on standard
    /// error with exit code 2.
    pub fn begin<S: ProgramSettings>(self) -> Result<Begun<S>, ExitCode> {
        let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        let asked = arguments::parse(&words, self.commands).map_err(|unknown| {
            let (name, usage) = (self.name, arguments::usage(self.name, self.commands));
            eprintln!("{name}: unknown argument {unknown:?}; {usage}");
            ExitCode::from(WRONG)
        })?;
        match asked {
            Asked::Version => return Err(print(&format!("{} {}", self.name, self.version))),
            Asked::Help => return Err(print(&arguments::usage(self.name, self.commands))),
            Asked::Serve | Asked::PrintConfig | Asked::HealthCheck(_) | Asked::Command(_) => {}
        }
        let options = LoadOptions { prefixes: self.prefixes, ..LoadOptions::from_process(self.name) };
        let Loaded { settings, printed } = load_parts(options, S::read).map_err(|error| {
            eprintln!("{}: {error}", self.name);
            ExitCode::from(WRONG)
        })?;
        match asked {
            Asked::PrintConfig => Err(print(printed.trim_end())),
            Asked::HealthCheck(path) => Err(healthcheck::ask(settings.address(), path)),
            Asked::Command(command) => Ok(Begun { program: self, settings, command: Some(command) }),
            Asked::Serve | Asked::Version | Asked::Help => Ok(Begun { program: self, settings, command: None }),
        }
    }
}

impl<S: ProgramSettings> Begun<S> {
    /// Does a command when one was asked for; the error is told with all that caused it.
    pub fn command<F, Fut, E>(self, run: F) -> Result<Self, ExitCode>
    where
        F: FnOnce(&'static str, S) -> Fut,
        Fut: Future<Output = Result<String, E>>,
        E: Error + 'static,
    {
        let Some(command) = self.command else { return Ok(self) };
        let _telemetry = self.program.telemetry(&TelemetryOptions {
            log_level: "warn".to_owned(),
            ..self.program.logs(self.settings.process())
        })?;
        tls::install();
        let runtime = runtime(self.program.name)?;
        let done = runtime.block_on(run(command, self.settings));
        runtime.shutdown_background();
        Err(match done {
            Ok(text) => print(text.trim_end()),
            Err(error) => {
                eprintln!("{} {command}: {}", self.program.name, chain(&error));
                ExitCode::from(FAILED)
            }
        })
    }

    /// Serves until a signal comes or a part of the service dies; `run` starts it, waits for its end and closes what it
    /// opened.
    pub fn serve<F, Fut, E>(self, run: F) -> ExitCode
    where
        F: FnOnce(S, Lifecycle) -> Fut,
        Fut: Future<Output = Result<Exit, E>>,
        E: Error + 'static,
    {
        let name = self.program.name;
        let serve = || {
            let _telemetry = self.program.telemetry(&self.program.logs(self.settings.process()))?;
            tls::install();
            let runtime = runtime(name)?;
            let exit = runtime.block_on(async {
                let lifecycle = Lifecycle::new();
                if let Err(error) = lifecycle.listen_to_signals() {
                    tracing::error!(%error, "signals cannot be heard");
                }
                tracing::info!(service = name, version = self.program.version, "starting");
                run(self.settings, lifecycle).await
            });
            // What still runs on a thread of its own must not hold the process.
            runtime.shutdown_background();
            match exit {
                Ok(exit) => {
                    tracing::info!(service = name, code = exit.code(), "stopped");
                    Ok(ExitCode::from(u8::from(exit.code() != 0)))
                }
                Err(error) => {
                    tracing::error!(error = chain(&error), "could not start");
                    Ok(ExitCode::from(CANNOT_START))
                }
            }
        };
        serve().unwrap_or_else(|code| code)
    }
}

impl Program {
    fn logs(&self, process: &ProcessSettings) -> TelemetryOptions {
        TelemetryOptions { service: self.name, log_level: process.log_level.clone(), log_format: process.log_format }
    }

    fn telemetry(&self, options: &TelemetryOptions) -> Result<telemetry::Guard, ExitCode> {
        telemetry::init(options).map_err(|error| {
            eprintln!("{}: {error}", self.name);
            ExitCode::from(WRONG)
        })
    }
}

fn runtime(name: &str) -> Result<tokio::runtime::Runtime, ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        eprintln!("{name}: could not start: {error}");
        ExitCode::from(CANNOT_START)
    })
}

fn print(text: &str) -> ExitCode {
    use std::io::Write as _;

    // Whoever stopped reading has what was wanted.
    let _ = writeln!(std::io::stdout(), "{text}");
    ExitCode::SUCCESS
}

/// An error with everything that caused it, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries repeat their source in their own words.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
