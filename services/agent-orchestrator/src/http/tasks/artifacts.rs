//! The files that are kept with a task.
//!
//! Models and tools choose their content and names, so a download can do nothing in a browser: it is never shown in place,
//! never guessed to be something else, and says of itself only what is harmless.

use std::fmt::Write as _;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use common::extract::Path;
use common::problem::Problem;
use domain::TaskId;
use serde::Deserialize;
use state::Artifact;
use utoipa::IntoParams;
use wire::ArtifactView;

use super::TaskPath;
use crate::app::ArtifactError;
use crate::http::App;
use crate::http::caller::Caller;

/// Media types that are what they are whoever looks at them; everything else is sent as plain bytes.
const HARMLESS: [&str; 10] = [
    "application/json",
    "application/pdf",
    "application/zip",
    "audio/mpeg",
    "image/gif",
    "image/jpeg",
    "image/png",
    "image/webp",
    "text/csv",
    "text/plain",
];
/// Texts that a browser need not know as more than that.
const TEXTS: [&str; 3] = ["text/markdown", "application/yaml", "text/x-log"];

/// The path of a file.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ArtifactPath {
    /// The task's id.
    #[param(value_type = Uuid)]
    task_id: TaskId,
    /// The file's name, which may contain slashes.
    #[param(example = "report/q2.md")]
    name: String,
}

/// Lists the files that are kept with a task, by name.
#[utoipa::path(get, path = "/tasks/{task_id}/artifacts", operation_id = "task_artifacts", tag = "tasks",
    params(TaskPath),
    responses((status = 200, description = "The files", body = Vec<ArtifactView>), ArtifactError))]
pub(crate) async fn task_artifacts(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<TaskPath>,
) -> Result<Json<Vec<ArtifactView>>, Problem> {
    let artifacts = app.tasks.artifacts(&caller.namespace, path.task_id).await?;
    Ok(Json(artifacts.into_iter().map(|artifact| view(path.task_id, artifact)).collect()))
}

/// Downloads a file that is kept with a task.
///
/// It comes as an attachment, with a harmless media type. `ETag` is the digest of its bytes; `If-None-Match` is honoured.
#[utoipa::path(get, path = "/tasks/{task_id}/artifacts/{*name}", operation_id = "task_artifact", tag = "tasks",
    params(ArtifactPath, ("If-None-Match" = Option<String>, Header, description = "The `ETag` of a copy that is there")),
    responses(
        (status = 200, description = "The bytes", content_type = "application/octet-stream", body = Vec<u8>),
        (status = 304, description = "The copy that is there is the same"),
        ArtifactError
    ))]
pub(crate) async fn download_artifact(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ArtifactPath>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let artifact = app.tasks.artifact(&caller.namespace, path.task_id, &path.name).await?;
    let tag = format!("\"{}\"", blob::hex(&artifact.digest));
    if has_copy(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let bytes = app.tasks.bytes_of(&artifact).await?;
    let described: [(HeaderName, String); 3] = [
        (header::CONTENT_TYPE, content_type(&artifact.media_type)),
        (header::CONTENT_DISPOSITION, disposition(&artifact.name)),
        (header::ETAG, tag),
    ];
    let guarded = [
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'")),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
    ];
    Ok((described, guarded, bytes).into_response())
}

fn view(task: TaskId, artifact: Artifact) -> ArtifactView {
    let path: Vec<String> = artifact.name.split('/').map(percent).collect();
    ArtifactView {
        href: format!("/tasks/{task}/artifacts/{}", path.join("/")),
        name: artifact.name,
        media_type: artifact.media_type,
        size: artifact.size,
        digest: blob::hex(&artifact.digest),
        at: artifact.at,
    }
}

fn has_copy(headers: &HeaderMap, tag: &str) -> bool {
    let tags = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    tags.flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|given| given == "*" || given.strip_prefix("W/").unwrap_or(given) == tag)
}

fn content_type(media_type: &str) -> String {
    if TEXTS.contains(&media_type) {
        return "text/plain; charset=utf-8".to_owned();
    }
    match media_type {
        "text/plain" | "text/csv" => format!("{media_type}; charset=utf-8"),
        known if HARMLESS.contains(&known) => known.to_owned(),
        _ => "application/octet-stream".to_owned(),
    }
}

/// Names the download after the last part of the name: once for old readers, once in full (RFC 6266, RFC 8187).
fn disposition(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    let plain: String =
        last.chars().map(|c| if c.is_ascii_alphanumeric() || "._- ".contains(c) { c } else { '_' }).collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", percent(last))
}

/// Writes every byte that is no unreserved character (RFC 3986) as its number.
fn percent(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_browser_could_run_is_sent_as_bytes() {
        for hostile in
            ["text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript", "application/xml", "x"]
        {
            assert_eq!(content_type(hostile), "application/octet-stream", "{hostile}");
        }
        assert_eq!(content_type("text/markdown"), "text/plain; charset=utf-8");
        assert_eq!(content_type("image/png"), "image/png");
    }

    #[test]
    fn a_name_cannot_leave_its_header() {
        assert_eq!(
            disposition("a/Bericht \"März\"\r\nX: y.md"),
            "attachment; filename=\"Bericht _M_rz___X_ y.md\"; filename*=UTF-8''Bericht%20%22M%C3%A4rz%22%0D%0AX%3A%20y.md"
        );
    }

    #[test]
    fn a_copy_is_recognized_by_its_tag() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static(value));
            headers
        };
        for same in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*"] {
            assert!(has_copy(&with(same), "\"a\""), "{same}");
        }
        assert!(!has_copy(&with("\"b\""), "\"a\"") && !has_copy(&HeaderMap::new(), "\"a\""));
    }
}
