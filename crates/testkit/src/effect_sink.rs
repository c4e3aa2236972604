//! The outside world, for crash tests: a server that remembers every request before it answers.
//!
//! Whether a platform kept its promise about side effects cannot be read from its own journal. The sink stands outside
//! the process that is killed (in the test's process, or as the program `effect-sink`), and a request that was answered
//! is on disk, so what it has counted is what really happened.

use std::collections::{BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use domain::{Clock, SystemClock, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const MAX_BODY: usize = 16 << 20;

/// One request that arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Its `Idempotency-Key`; empty when it had none.
    pub key: String,
    /// Its path, without the query.
    pub path: String,
    /// Its method.
    pub method: String,
    /// BLAKE3 of its body, in hexadecimal.
    pub body_digest: String,
    /// When it arrived.
    pub t: Timestamp,
}

/// What arrived, in numbers; the answer of `GET /count`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Requests.
    pub deliveries: usize,
    /// Different keys among them.
    pub distinct_keys: usize,
    /// Requests without a key.
    pub without_key: usize,
}

/// A running sink. It stops when it is dropped.
///
/// Every request but `GET /count` and `GET /log` is recorded, then answered: `?status=503` chooses the status, and
/// `?delay_ms=500` waits between the two, which is the moment to kill whoever asked.
pub struct EffectSink {
    address: SocketAddr,
    record: Arc<Record>,
    server: JoinHandle<()>,
}

impl EffectSink {
    /// Starts a sink on a free port of loopback. With a file, every request is in it, one JSON line each, before its
    /// answer; what the file already has counts on.
    pub async fn start(log: Option<PathBuf>) -> io::Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), log).await
    }

    /// Starts a sink at an address.
    pub async fn start_at(address: SocketAddr, log: Option<PathBuf>) -> io::Result<Self> {
        let record = Arc::new(Record::open(log.as_deref())?);
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let app = Router::new()
            .route("/count", get(count).fallback(deliver))
            .route("/log", get(log_lines).fallback(deliver))
            .fallback(deliver)
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(Arc::clone(&record));
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                eprintln!("the effect sink stopped: {error}");
            }
        });
        Ok(Self { address, record, server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that arrived, in order.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.record.lock().deliveries.clone()
    }

    /// What arrived, in numbers.
    pub fn count(&self) -> Count {
        self.record.count()
    }

    /// Serves until the process ends.
    pub async fn run(mut self) {
        // An error of the task is its panic, which has been printed.
        let _ = (&mut self.server).await;
    }
}

impl Drop for EffectSink {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Reads the file of a sink, also of one that was killed: a last line without an end was never answered.
pub fn read_log(log: &Path) -> io::Result<Vec<Delivery>> {
    Ok(read_whole_lines(log)?.0)
}

/// Reads all whole lines, and tells how many bytes they take.
fn read_whole_lines(log: &Path) -> io::Result<(Vec<Delivery>, u64)> {
    let mut reader = BufReader::new(File::open(log)?);
    let (mut deliveries, mut length) = (Vec::new(), 0);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
        deliveries.push(serde_json::from_slice(&line)?);
        length += line.len() as u64;
        line.clear();
    }
    Ok((deliveries, length))
}

struct Record {
    written: Mutex<Written>,
    clock: SystemClock,
}

struct Written {
    deliveries: Vec<Delivery>,
    file: Option<File>,
}

impl Record {
    fn open(log: Option<&Path>) -> io::Result<Self> {
        let mut written = Written { deliveries: Vec::new(), file: None };
        if let Some(log) = log {
            let file = OpenOptions::new().create(true).append(true).open(log)?;
            let (deliveries, length) = read_whole_lines(log)?;
            file.set_len(length)?;
            written = Written { deliveries, file: Some(file) };
        }
        Ok(Self { written: Mutex::new(written), clock: SystemClock::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a delivery, on disk first, and tells how often its key has been here now.
    fn keep(&self, delivery: Delivery) -> io::Result<usize> {
        let mut written = self.lock();
        if let Some(file) = &mut written.file {
            let mut line = serde_json::to_vec(&delivery)?;
            line.push(b'\n');
            file.write_all(&line)?;
            file.sync_data()?;
        }
        written.deliveries.push(delivery);
        let Some((last, _)) = written.deliveries.split_last() else { return Ok(0) };
        Ok(written.deliveries.iter().filter(|other| other.key == last.key).count())
    }

    fn count(&self) -> Count {
        let written = self.lock();
        let keys: BTreeSet<&str> =
            written.deliveries.iter().map(|one| one.key.as_str()).filter(|key| !key.is_empty()).collect();
        Count {
            deliveries: written.deliveries.len(),
            distinct_keys: keys.len(),
            without_key: written.deliveries.iter().filter(|one| one.key.is_empty()).count(),
        }
    }
}

async fn count(State(record): State<Arc<Record>>) -> Json<Count> {
    Json(record.count())
}

async fn log_lines(State(record): State<Arc<Record>>) -> Result<String, StatusCode> {
    let mut text = String::new();
    for delivery in &record.lock().deliveries {
        text += &serde_json::to_string(delivery).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
        text.push('\n');
    }
    Ok(text)
}

async fn deliver(
    State(record): State<Arc<Record>>,
    method: Method,
    uri: Uri,
    Query(wishes): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let key = headers.get("idempotency-key").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let delivery = Delivery {
        key: key.to_owned(),
        path: uri.path().to_owned(),
        method: method.to_string(),
        body_digest: blake3::hash(&body).to_hex().to_string(),
        t: record.clock.now(),
    };
    let kept = tokio::task::spawn_blocking(move || record.keep(delivery)).await;
    let Ok(Ok(times)) = kept else {
        return (StatusCode::INTERNAL_SERVER_ERROR, "the delivery could not be recorded").into_response();
    };
    if let Some(delay) = wishes.get("delay_ms").and_then(|text| text.parse().ok()) {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let status = wishes.get("status").and_then(|text| text.parse().ok());
    let status = status.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(StatusCode::OK);
    (status, Json(serde_json::json!({ "deliveries_of_key": times }))).into_response()
}
