//! Logs and metrics of a process.
//!
//! The subscriber and the metrics recorder are the only globals of the platform. Several services in one process share
//! them: the first one to come sets them up.

mod labels;
mod log_format;
mod log_writer;

use std::io::IsTerminal as _;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

pub use labels::LabelSet;

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("must be text or json".to_owned()),
        }
    }
}

/// What to log.
#[derive(Debug, Clone)]
pub struct TelemetryOptions {
    /// Who logs.
    pub service: &'static str,
    /// `LOG_LEVEL`: a level, or directives such as `info,state=debug`.
    pub log_level: String,
    /// `LOG_FORMAT`.
    pub log_format: LogFormat,
}

impl TelemetryOptions {
    /// Logs `info` as text.
    pub fn new(service: &'static str) -> Self {
        Self { service, log_level: "info".to_owned(), log_format: LogFormat::Text }
    }
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is not understood.
    #[error(
        "LOG_LEVEL {level:?} is not a level (error, warn, info, debug, trace) or a list such as info,state=debug: {reason}"
    )]
    Level {
        /// What was given.
        level: String,
        /// Why it is refused.
        reason: String,
    },
    /// The writer's thread could not be started.
    #[error("could not start the log writer")]
    Writer(#[source] std::io::Error),
}

/// Writes out what is still buffered when it is dropped: keep it until the end of `main`.
#[must_use = "log lines are lost when it is dropped early"]
#[derive(Debug)]
pub struct Guard {
    writer: Option<log_writer::LogWriter>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(writer) = &self.writer {
            writer.flush(Duration::from_secs(1));
        }
    }
}

/// Libraries that nobody may have log: what they say holds what models and tools say, and secrets.
const SILENT: [&str; 2] = ["rmcp=off", "oauth2=off"];
/// Libraries that say several times a second what their adapter says once.
const QUIET: [&str; 1] = ["async_nats=error"];

/// Sets up logs, on standard error, and metrics. When another service of the process did it before, nothing changes.
pub fn init(options: &TelemetryOptions) -> Result<Guard, TelemetryError> {
    metrics_handle();
    let filter = EnvFilter::builder()
        .parse(&options.log_level)
        .map_err(|error| TelemetryError::Level { level: options.log_level.clone(), reason: error.to_string() })?;
    // It logs whole messages, tokens among them, at levels that people do set.
    let filter =
        SILENT.iter().chain(&QUIET).filter_map(|target| target.parse().ok()).fold(filter, EnvFilter::add_directive);
    let writer = log_writer::LogWriter::start(std::io::stderr()).map_err(TelemetryError::Writer)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer.clone());
    let lines = match options.log_format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).fmt_fields(log_format::Neutral).boxed(),
    };
    let first = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init().is_ok();
    if first {
        log_panics();
        tracing::debug!(service = options.service, "telemetry is set up");
    }
    Ok(Guard { writer: first.then_some(writer) })
}

/// A panic is a log line like any other, not raw text between them.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = crate::lifecycle::panic_text(panic.payload());
        tracing::error!(%location, message, "panic");
    }));
}

/// The process's metrics; sets up the recorder when nobody has yet.
pub fn metrics_handle() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        // Buckets, not summaries: they can be added up over replicas, and cost nothing to record.
        const SECONDS: [f64; 17] = [
            0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
            60.0,
        ];
        let builder = PrometheusBuilder::new();
        let builder = builder.set_buckets(&SECONDS).unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        // A recorder that somebody else installed keeps its place; ours then renders only process metrics.
        let _ = metrics::set_global_recorder(recorder);
        metrics_process::Collector::default().describe();
        handle
    })
}

/// All metrics in Prometheus' text format.
pub fn render_metrics() -> String {
    let handle = metrics_handle();
    metrics_process::Collector::default().collect();
    handle.render()
}
