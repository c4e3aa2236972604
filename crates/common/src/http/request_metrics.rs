//! Counts and times requests. Labels are bounded: the route as it was declared, never the path that was asked for.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use http::{Method, StatusCode};
use metrics::{Counter, Histogram};

use crate::telemetry;

/// A service's handles. Looking them up by their labels at every request would cost more than the recording.
pub(super) struct RequestMetrics {
    service: &'static str,
    routes: RwLock<HashMap<String, RouteHandles>>,
}

/// By method and status.
type RouteHandles = HashMap<(&'static str, u16), Handles>;

#[derive(Clone)]
struct Handles {
    requests: Counter,
    seconds: Histogram,
}

impl RequestMetrics {
    pub(super) fn new(service: &'static str) -> Self {
        // Handles that are made before there is a recorder count nothing for ever.
        telemetry::metrics_handle();
        metrics::describe_counter!("http_requests_total", "Requests that were answered.");
        metrics::describe_histogram!("http_request_seconds", "Time until the response began.");
        Self { service, routes: RwLock::default() }
    }

    pub(super) fn record(&self, route: &str, method: &Method, status: StatusCode, took: Duration) {
        let key = (label(method), status.as_u16());
        let known = {
            let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
            routes.get(route).and_then(|handles| handles.get(&key)).cloned()
        };
        let handles = known.unwrap_or_else(|| {
            let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
            let handles = routes.entry(route.to_owned()).or_default();
            handles.entry(key).or_insert_with(|| self.handles(route, key)).clone()
        });
        handles.requests.increment(1);
        handles.seconds.record(took);
    }

    fn handles(&self, route: &str, (method, status): (&'static str, u16)) -> Handles {
        let route = route.to_owned();
        Handles {
            requests: metrics::counter!(
                "http_requests_total",
                "service" => self.service, "route" => route.clone(), "method" => method, "status" => status.to_string()
            ),
            seconds: metrics::histogram!(
                "http_request_seconds",
                "service" => self.service, "route" => route, "method" => method
            ),
        }
    }
}

/// Clients can make up methods.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
