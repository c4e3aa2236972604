//! The paths that every service has.

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{StatusCode, header};
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::health::Health;
use crate::problem::{Kind, Problem};
use crate::telemetry;

pub(super) fn health(health: Health) -> Router {
    let live = || async { ([(header::CONTENT_TYPE, "application/json")], r#"{"status":"alive"}"#) };
    let ready = move || {
        let health = health.clone();
        async move {
            let report = health.report().await;
            let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            (status, Json(report.checks))
        }
    };
    Router::new().route("/health/live", get(live)).route("/health/ready", get(ready))
}

pub(super) fn metrics() -> Router {
    let metrics = || async {
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], telemetry::render_metrics())
    };
    Router::new().route("/metrics", get(metrics))
}

pub(super) fn docs(api: OpenApi) -> Router {
    let config = Config::default().try_it_out_enabled(true).persist_authorization(false);
    Router::from(SwaggerUi::new("/docs").url("/openapi.json", api).config(config))
}

/// A problem's `type` is relative to the server, so it can be opened there.
pub(super) fn errors() -> Router {
    Router::new().route("/errors/{slug}", get(error))
}

async fn error(Path(slug): Path<String>) -> Response {
    match Kind::from_slug(&slug) {
        Some(kind) => ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], kind.page()).into_response(),
        None => Problem::new(Kind::NotFound).into_response(),
    }
}
