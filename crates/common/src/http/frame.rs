//! What happens around every handler, in one layer: each layer of its own would allocate once more for every request.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use domain::Ids;
use futures::{FutureExt as _, StreamExt as _};
use http::{HeaderName, HeaderValue, StatusCode, header};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::ServerOptions;
use super::guard::Guard;
use super::request_metrics::RequestMetrics;
use crate::extract::BodyLimit;
use crate::lifecycle::{Lifecycle, panic_text};
use crate::problem::{Kind, Problem};
use crate::trace::TraceContext;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A response of the API is data: no browser may show it as anything else.
const DATA_POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
/// The documentation is a page with its own scripts.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
);

/// What the layer needs to know.
pub(super) struct Frame {
    guard: Guard,
    metrics: RequestMetrics,
    body_limit: BodyLimit,
    timeout: Duration,
    ids: Arc<dyn Ids>,
    soft: CancellationToken,
}

impl Frame {
    pub(super) fn new(options: &ServerOptions, lifecycle: &Lifecycle, address: SocketAddr) -> Self {
        Self {
            guard: Guard::new(options, address),
            metrics: RequestMetrics::new(options.name),
            body_limit: BodyLimit(options.body_limit),
            timeout: options.request_timeout,
            ids: options.ids.clone(),
            soft: lifecycle.soft().clone(),
        }
    }
}

pub(super) async fn handle(State(frame): State<Arc<Frame>>, mut request: Request, next: Next) -> Response {
    let start = Instant::now();
    let trace = TraceContext::from_headers(request.headers(), &*frame.ids);
    let request_id = request_id(&request, trace);
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let page = request.uri().path().starts_with("/docs");
    request.extensions_mut().insert(trace);
    request.extensions_mut().insert(frame.body_limit);

    let route_name = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let span = tracing::info_span!("http", trace_id = %trace.trace_id(), %method, route = route_name);
    let mut response = async {
        let response = match frame.guard.check(&request) {
            Ok(()) => answer(&frame, request, next).await,
            Err(problem) => problem.into_response(),
        };
        let took = start.elapsed();
        frame.metrics.record(route_name, &method, response.status(), took);
        tracing::debug!(status = response.status().as_u16(), took_ms = took.as_secs_f64() * 1e3, "answered");
        response
    }
    .instrument(span)
    .await;

    name_problem(&mut response, trace);
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, request_id);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(if page { PAGE_POLICY } else { DATA_POLICY });
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    end_streams(response, &frame.soft)
}

/// Runs the handler: it may neither hang nor take the server down.
async fn answer(frame: &Frame, request: Request, next: Next) -> Response {
    let handler = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(frame.timeout, handler).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => {
            tracing::error!(panic = panic_text(&*panic), "a handler panicked");
            Problem::new(Kind::Internal).into_response()
        }
        Err(_) => {
            tracing::warn!(timeout_ms = frame.timeout.as_millis() as u64, "a handler took too long");
            Problem::new(Kind::Timeout).into_response()
        }
    }
}

/// Gives every error the problem's shape, whoever made it, and the trace's id.
fn name_problem(response: &mut Response, trace: TraceContext) {
    let Some(mut problem) = response.extensions_mut().remove::<Problem>().or_else(|| foreign_problem(response)) else {
        return;
    };
    problem.trace_id = Some(trace.trace_id());
    let (parts, body) = problem.render().into_parts();
    *response.body_mut() = body;
    *response.status_mut() = parts.status;
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.extend(parts.headers);
    if matches!(problem.kind, Kind::BodyTooLarge | Kind::RequestTimeout) {
        // The rest of the body is not read, so nothing else can come over this connection.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// What the router, or an extractor that is not ours, refused in its own words.
fn foreign_problem(response: &Response) -> Option<Problem> {
    let plain = match response.headers().get(header::CONTENT_TYPE) {
        Some(content_type) => content_type.as_bytes().starts_with(b"text/plain"),
        None => true,
    };
    if !plain {
        return None;
    }
    match response.status() {
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Some(Problem::new(Kind::InvalidRequest)),
        StatusCode::NOT_FOUND => Some(Problem::new(Kind::NotFound)),
        StatusCode::METHOD_NOT_ALLOWED => Some(Problem::new(Kind::MethodNotAllowed)),
        StatusCode::REQUEST_TIMEOUT => Some(Problem::new(Kind::RequestTimeout)),
        StatusCode::PAYLOAD_TOO_LARGE => Some(Problem::new(Kind::BodyTooLarge)),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Some(Problem::new(Kind::UnsupportedMediaType)),
        StatusCode::INTERNAL_SERVER_ERROR => Some(Problem::new(Kind::Internal)),
        _ => None,
    }
}

/// Event streams have no end of their own: without this they would hold up every shutdown.
fn end_streams(response: Response, soft: &CancellationToken) -> Response {
    let stream = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|content_type| content_type.as_bytes().starts_with(b"text/event-stream"));
    if !stream {
        return response;
    }
    let soft = soft.clone();
    response.map(|body| Body::from_stream(body.into_data_stream().take_until(soft.cancelled_owned())))
}

/// The client's own id if it is harmless, else the trace's.
fn request_id(request: &Request, trace: TraceContext) -> HeaderValue {
    let harmless = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=64).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    let sent = request.headers().get(REQUEST_ID).filter(harmless).cloned();
    sent.or_else(|| HeaderValue::try_from(trace.trace_id()).ok()).unwrap_or(HeaderValue::from_static("-"))
}
