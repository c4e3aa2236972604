//! How a service runs: configuration, lifecycle, errors, HTTP server, health and telemetry.
//!
//! Every service is the same page: settings, telemetry, ports, `serve`, wait. Whatever all of them need once is here, so
//! that a limit, a header or an error's shape is the same at every door of the platform.
//!
//! | module | what for |
//! |---|---|
//! | [`config`] | [`config::load`]: defaults < TOML file < environment < nothing; [`config::Secret`]; [`config::print_redacted`] |
//! | [`lifecycle`] | [`Lifecycle`](lifecycle::Lifecycle): soft stop, hard stop, named tasks, exit status |
//! | [`problem`] | [`Problem`](problem::Problem): every error that leaves a service, by [`Kind`](problem::Kind) |
//! | [`extract`] | [`StrictJson`](extract::StrictJson), [`Path`](extract::Path), [`Query`](extract::Query): rejections are problems |
//! | [`program`] | [`Program`](program::Program): what every service's `main` does: arguments, settings, telemetry, signals |
//! | [`page`] | [`Cursor`](page::Cursor), [`Limit`](page::Limit) of lists |
//! | [`health`] | [`Health`](health::Health): named checks behind `/health/ready` |
//! | [`http`] | [`serve`](http::serve): the HTTP server with its limits, metrics, docs |
//! | [`trace`] | [`TraceContext`](trace::TraceContext): W3C trace context, an extractor |
//! | [`telemetry`] | [`init`](telemetry::init): logs and metrics |
//! | [`tls`] | [`install`](tls::install): the one TLS provider |
//!
//! ```no_run
//! use common::extract::{Path, StrictJson};
//! use common::problem::{self, Kind, Problem};
//! use common::{health::Health, http, lifecycle::Lifecycle};
//!
//! #[derive(serde::Deserialize, utoipa::ToSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Rename { name: String }
//!
//! enum RenameError { Unknown(String) }
//! impl From<RenameError> for Problem {
//!     fn from(RenameError::Unknown(id): RenameError) -> Self {
//!         Problem::new(Kind::UnknownAgent).detail(format!("agent {id} does not exist"))
//!     }
//! }
//! // Documents the endpoint's errors: name the enum in `responses(…, RenameError)`.
//! impl utoipa::IntoResponses for RenameError {
//!     fn responses() -> problem::Responses { problem::responses(&[Kind::UnknownAgent, Kind::InvalidRequest]) }
//! }
//!
//! #[utoipa::path(post, path = "/things/{id}", responses((status = 204), RenameError))]
//! async fn rename(Path(id): Path<String>, StrictJson(body): StrictJson<Rename>) -> Result<(), Problem> {
//!     if body.name.is_empty() { return Err(Problem::invalid("/name", "must not be empty")); }
//!     Err(RenameError::Unknown(id))?
//! }
//!
//! async fn start(lifecycle: Lifecycle) -> Result<std::net::SocketAddr, http::StartError> {
//!     let api = utoipa_axum::router::OpenApiRouter::new().routes(utoipa_axum::routes!(rename));
//!     let health = Health::new();
//!     health.add("state", true, || async { Ok(()) });
//!     let options = http::ServerOptions::new("things", ([127, 0, 0, 1], 0).into());
//!     http::serve(options, api, health, lifecycle).await
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let lifecycle = Lifecycle::new();
//! lifecycle.listen_to_signals()?;
//! start(lifecycle.clone()).await?;
//! std::process::exit(lifecycle.wait(std::time::Duration::from_secs(30)).await.code());
//! # }
//! ```

pub mod config;
pub mod extract;
pub mod health;
pub mod http;
pub mod lifecycle;
pub mod page;
pub mod problem;
pub mod program;
pub mod telemetry;
pub mod tls;
pub mod trace;
