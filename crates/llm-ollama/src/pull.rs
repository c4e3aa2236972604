//! Fetching a model: one line for each bit of progress, and `success` at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use llm::{PullProgress, PullSink};
use llm_http::{Asked, Complaint, Failed, Limits, Lines, Server};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::timeout;

/// A registry that says nothing for longer is not fetched from. The fetch as a whole may take as long as it takes.
const IDLE: Duration = Duration::from_mins(5);
const LINE_BYTES: usize = 64 * 1024;
/// The words of a complaint about a model that no waiting brings into being.
const NOT_THERE: [&str; 3] = ["does not exist", "not found", "invalid model name"];

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    stream: bool,
}

#[derive(Deserialize)]
struct Line {
    status: Option<String>,
    digest: Option<String>,
    total: Option<u64>,
    completed: Option<u64>,
    error: Option<Value>,
}

/// Fetches a model into the server.
pub(crate) async fn pull(
    server: &Server,
    asked: &Asked<'_>,
    model: &str,
    on_progress: &PullSink<'_>,
) -> Result<(), Failed> {
    let body = serde_json::to_vec(&Body { model, stream: true })
        .map_err(|_| asked.not_sendable(&"the request cannot be written as JSON"))?;
    let sent = timeout(IDLE, asked.send(server.post(&server.url("api/pull"), body))).await;
    let response = sent.map_err(|_| asked.silent(IDLE))??;
    let limits = Limits { answer_bytes: usize::MAX, line_bytes: LINE_BYTES, ..server.limits() };
    let mut stream = asked.listen(response, Lines::new(LINE_BYTES), limits, IDLE).await?;
    stream.heard();
    let mut layers: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    while let Some(line) = stream.next().await? {
        let line: Line =
            serde_json::from_str(&line).map_err(|_| asked.invalid(&"a line of the stream tells no progress"))?;
        if let Some(error) = line.error.filter(|error| !error.is_null()) {
            return Err(failed(asked, &error));
        }
        stream.heard();
        let Some(status) = line.status else { continue };
        if let Some(digest) = line.digest {
            let layer = layers.entry(digest).or_default();
            *layer = (line.completed.unwrap_or(layer.0), line.total.unwrap_or(layer.1));
        }
        let is_whole = status == "success";
        on_progress(progress(status, &layers));
        if is_whole {
            stream.finish().await;
            return Ok(());
        }
    }
    Err(asked.invalid(&"the fetch was cut off before it was whole; what is there already is not fetched again"))
}

/// A model is fetched in several layers; their sums are what a person wants to know.
fn progress(status: String, layers: &BTreeMap<String, (u64, u64)>) -> PullProgress {
    let sum = |part: fn(&(u64, u64)) -> u64| layers.values().map(part).fold(0, u64::saturating_add);
    let total = sum(|layer| layer.1);
    PullProgress { status, done: sum(|layer| layer.0), total: (total > 0).then_some(total) }
}

fn failed(asked: &Asked<'_>, error: &Value) -> Failed {
    let mut complaint = Complaint::from_value(&serde_json::json!({ "error": error }));
    if NOT_THERE.iter().any(|words| complaint.message.contains(words)) {
        complaint.status = Some(404);
    }
    asked.broke_off(&complaint)
}
