//! Files that are kept with tasks.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A file that is kept with a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "name": "report/q2.md",
    "media_type": "text/markdown",
    "size": 18_204,
    "digest": "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    "at": "2026-03-01T12:00:01Z",
    "href": "/tasks/0195d3a0-5c5e-7c3a-9f5d-2f6a1f0b7c10/artifacts/report/q2.md"
}))]
pub struct ArtifactView {
    /// Its name, unique in the task.
    pub name: String,
    /// Its media type, as whoever wrote it said; a download has a harmless one.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// BLAKE3 of its bytes.
    pub digest: String,
    /// When it was written.
    pub at: DateTime<Utc>,
    /// Where to download it.
    pub href: String,
}
