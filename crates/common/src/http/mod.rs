//! The HTTP server of every service: one set of limits, headers, metrics and documentation pages for all of them.

mod accept;
mod frame;
mod guard;
mod pages;
mod request_metrics;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use domain::{Ids, SystemIds};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::extract::DEFAULT_BODY_LIMIT;
use crate::health::Health;
use crate::lifecycle::Lifecycle;
use crate::problem;

/// How a server behaves. [`ServerOptions::new`] fits nearly everyone.
#[derive(Clone)]
pub struct ServerOptions {
    /// The service's name in metrics and logs.
    pub name: &'static str,
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// The largest body; a route has another one by an `Extension` of [`crate::extract::BodyLimit`].
    pub body_limit: usize,
    /// How long a handler may take until its response begins; the handler is then dropped.
    pub request_timeout: Duration,
    /// How long a connection may take to send a request's headers, and how long it may be idle.
    pub header_timeout: Duration,
    /// How many connections are served at once; further ones wait.
    pub max_connections: usize,
    /// Host names, beside `localhost` and addresses, by which the service may be called. Without any, a listener on the
    /// loopback interface answers to no other name, and one for other machines to every name.
    pub allowed_hosts: Vec<String>,
    /// Origins, such as `https://console.example`, whose pages may change things.
    pub allowed_origins: Vec<String>,
    /// Whether to serve `/docs` and `/openapi.json`.
    pub docs: bool,
    /// Whether to serve `/metrics`.
    pub metrics: bool,
    /// Makes the ids of requests and traces.
    pub ids: Arc<dyn Ids>,
}

impl ServerOptions {
    /// The usual limits.
    pub fn new(name: &'static str, address: SocketAddr) -> Self {
        Self {
            name,
            address,
            body_limit: DEFAULT_BODY_LIMIT,
            request_timeout: Duration::from_mins(1),
            header_timeout: Duration::from_secs(10),
            max_connections: 4096,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            docs: true,
            metrics: true,
            ids: Arc::new(SystemIds),
        }
    }
}

/// What is wrong with `HTTP_ALLOWED_HOSTS` and `HTTP_ALLOWED_ORIGINS`; empty when all is well.
pub fn name_problems(hosts: &[String], origins: &[String]) -> Vec<String> {
    let is_host = |host: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        !host.is_empty() && host.bytes().all(plain)
    };
    let is_origin = |origin: &str| {
        let rest = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '@', ' ']))
    };
    let wrong_hosts = hosts.iter().filter(|host| !is_host(host));
    let wrong_origins = origins.iter().filter(|origin| !is_origin(origin));
    wrong_hosts
        .map(|host| {
            format!("HTTP_ALLOWED_HOSTS: {host:?} must be a name without scheme and port, such as agents.example")
        })
        .chain(wrong_origins.map(|origin| {
            format!("HTTP_ALLOWED_ORIGINS: {origin:?} must be an origin, such as https://console.example")
        }))
        .collect()
}

/// Routes and their description.
#[derive(Default)]
pub struct Api {
    /// The routes.
    pub router: Router,
    /// What they take and answer.
    pub openapi: OpenApi,
}

impl From<OpenApiRouter> for Api {
    fn from(router: OpenApiRouter) -> Self {
        router.split_for_parts().into()
    }
}

impl From<(Router, OpenApi)> for Api {
    fn from((router, openapi): (Router, OpenApi)) -> Self {
        Self { router, openapi }
    }
}

/// Why a service could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error(
        "{service} cannot listen on {address}: is another process using it? Set another address, or port 0 for a free one"
    )]
    Listen {
        /// The service.
        service: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Something that the service needs could not be prepared.
    #[error("{service} could not start: {reason}")]
    Prepare {
        /// The service.
        service: &'static str,
        /// What and why.
        reason: String,
    },
}

impl StartError {
    /// Something that the service needs could not be prepared.
    pub fn prepare(service: &'static str, error: &dyn std::error::Error) -> Self {
        Self::Prepare { service, reason: crate::program::chain(error) }
    }
}

/// Serves an API until the lifecycle's soft stop, and returns the address that it is served at.
///
/// Adds `/health/live`, `/health/ready`, `/metrics`, `/docs`, `/openapi.json` and `/errors/{slug}`. At the soft stop no
/// connection is accepted any more, event streams end, and requests under way are answered; at the hard stop they are cut.
pub async fn serve(
    options: ServerOptions,
    api: impl Into<Api>,
    health: Health,
    lifecycle: Lifecycle,
) -> Result<SocketAddr, StartError> {
    let listen_error = |source| StartError::Listen { service: options.name, address: options.address, source };
    let listener = tokio::net::TcpListener::bind(options.address).await.map_err(listen_error)?;
    let address = listener.local_addr().map_err(listen_error)?;
    let router = router(&options, api, health, &lifecycle, address);
    tracing::info!(service = options.name, %address, "listening");
    let name = format!("{} http", options.name);
    let connections = accept::Connections::new(&options, router, lifecycle.clone());
    lifecycle.spawn(name, connections.run(listener));
    Ok(address)
}

/// The whole service without its listener, for tests that need no network.
pub fn router(
    options: &ServerOptions,
    api: impl Into<Api>,
    health: Health,
    lifecycle: &Lifecycle,
    address: SocketAddr,
) -> Router {
    let Api { router, mut openapi } = api.into();
    problem::complete(&mut openapi);
    router
        .merge(pages::health(health))
        .merge(pages::errors())
        .merge(if options.metrics { pages::metrics() } else { Router::new() })
        .merge(if options.docs { pages::docs(openapi) } else { Router::new() })
        .layer(DefaultBodyLimit::max(options.body_limit))
        .layer(axum::middleware::from_fn_with_state(
            Arc::new(frame::Frame::new(options, lifecycle, address)),
            frame::handle,
        ))
}
