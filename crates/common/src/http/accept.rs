//! Accepts connections and serves them within limits: nothing that a client does or omits may hold a place for ever.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use super::ServerOptions;
use crate::lifecycle::Lifecycle;
use crate::telemetry;

/// Room for a request's line and headers.
const HEAD_LIMIT: usize = 64 << 10;
/// How often histograms are folded into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);
/// With this HTTP/2 begins when the client knows that the server speaks it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The connections of a server.
pub(super) struct Connections {
    name: &'static str,
    router: Router,
    places: Arc<Semaphore>,
    header_timeout: Duration,
    lifecycle: Lifecycle,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Connections {
    pub(super) fn new(options: &ServerOptions, router: Router, lifecycle: Lifecycle) -> Arc<Self> {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(options.header_timeout)
            .max_header_size(HEAD_LIMIT)
            .max_buf_size(2 * HEAD_LIMIT);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(256)
            .max_header_list_size(HEAD_LIMIT as u32)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(20));
        Arc::new(Self {
            name: options.name,
            router,
            places: Arc::new(Semaphore::new(options.max_connections)),
            header_timeout: options.header_timeout,
            lifecycle,
            http1,
            http2,
        })
    }

    /// Accepts until the soft stop, and ends when the last connection has.
    pub(super) async fn run(self: Arc<Self>, listener: TcpListener) {
        let tracker = TaskTracker::new();
        let mut upkeep = tokio::time::interval(UPKEEP);
        loop {
            tokio::select! {
                () = self.lifecycle.soft().cancelled() => break,
                _ = upkeep.tick() => telemetry::metrics_handle().run_upkeep(),
                () = self.accept(&listener, &tracker) => {}
            }
        }
        drop(listener);
        tracker.close();
        tokio::select! {
            () = tracker.wait() => {}
            () = self.lifecycle.hard().cancelled() => {}
        }
        tracing::debug!(service = self.name, cut = tracker.len(), "the server has stopped");
    }

    async fn accept(self: &Arc<Self>, listener: &TcpListener, tracker: &TaskTracker) {
        // Never closed, so never an error.
        let Ok(place) = self.places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let connections = self.clone();
                tracker.spawn(async move {
                    let hard = connections.lifecycle.hard().clone();
                    tokio::select! {
                        () = connections.serve(stream, peer) => {}
                        () = hard.cancelled() => {}
                    }
                    drop(place);
                });
            }
            Err(error) => {
                // A connection that was gone before it was accepted, or no file descriptors left: both pass.
                tracing::warn!(service = self.name, %error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr) {
        // Small answers must not wait for more bytes.
        let _ = stream.set_nodelay(true);
        let Some(is_http2) = self.speaks_http2(&stream).await else { return };
        let router = self.router.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let mut router = router.clone();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            async move { Ok::<Response, Infallible>(router.call(request).await.unwrap_or_else(|never| match never {})) }
        });
        let soft = self.lifecycle.soft();
        let io = TokioIo::new(stream);
        let ended = if is_http2 {
            let mut connection = pin!(self.http2.serve_connection(io, service));
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = soft.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        } else {
            let mut connection = pin!(self.http1.serve_connection(io, service));
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = soft.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(service = self.name, %peer, %error, "a connection broke off");
        }
    }

    /// Waits for the first bytes, which are left in place; `None` when they do not come in time.
    async fn speaks_http2(&self, stream: &TcpStream) -> Option<bool> {
        let look = async {
            let mut first = [0; PREFACE.len()];
            loop {
                match stream.peek(&mut first).await {
                    Ok(0) | Err(_) => return None,
                    Ok(length) if length < first.len() && PREFACE.starts_with(&first[..length]) => {
                        // Peeking returns at once again, with the same bytes.
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    Ok(_) => return Some(first == *PREFACE),
                }
            }
        };
        tokio::select! {
            looked = tokio::time::timeout(self.header_timeout, look) => looked.ok().flatten(),
            () = self.lifecycle.soft().cancelled() => None,
        }
    }
}
