//! The files that are kept with tasks.

use bytes::Bytes;
use domain::TaskId;
use reqwest::StatusCode;
use reqwest::header::{self, HeaderMap};
use serde_json::json;
use state::Artifact;
use uuid::Uuid;

use crate::platform::{Platform, answer, until};
use crate::worker::Run;

/// Keeps a file with a task, as its worker does.
async fn write(platform: &Platform, run: &Run<'_>, name: &str, media_type: &str, bytes: &'static [u8]) {
    let digest = platform.blobs.put(Bytes::from_static(bytes)).await.unwrap();
    let artifact = Artifact {
        name: name.to_owned(),
        media_type: media_type.to_owned(),
        size: bytes.len() as u64,
        digest,
        at: platform.clock.now(),
    };
    platform.state.put_artifact(run.lease, artifact).await.unwrap();
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn files_are_listed_by_name_and_downloaded_whole() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    assert!(platform.client.artifacts(id).await.unwrap().is_empty());
    let run = Run::of(&platform, id).await;
    write(&platform, &run, "report.md", "text/markdown", b"# Report").await;
    write(&platform, &run, "data/2030.csv", "text/csv", b"a,b\n").await;
    write(&platform, &run, "data/Zahlen für März?#%.csv", "text/csv", b"1,2\n").await;

    let files = platform.client.artifacts(id).await.unwrap();
    assert_eq!(files.len(), 3);
    assert!(files.windows(2).all(|pair| pair[0].name < pair[1].name));
    let report = files.iter().find(|file| file.name == "report.md").unwrap();
    assert_eq!((report.size, report.media_type.as_str()), (8, "text/markdown"));
    assert_eq!(report.digest, blob::hex(blake3::hash(b"# Report").as_bytes()));
    for (name, bytes) in [("report.md", &b"# Report"[..]), ("data/Zahlen für März?#%.csv", b"1,2\n")] {
        assert_eq!(platform.client.artifact(id, name).await.unwrap(), bytes);
        let href = &files.iter().find(|file| file.name == name).unwrap().href;
        let response = platform.get(href).send().await.unwrap();
        assert_eq!(response.bytes().await.unwrap(), bytes, "{href}");
    }
}

#[tokio::test]
async fn a_download_can_do_nothing_in_a_browser() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    let run = Run::of(&platform, id).await;
    let page = b"<script>alert(1)</script>";
    for (name, media_type, sent) in [
        ("evil.html", "text/html", "application/octet-stream"),
        ("evil.svg", "image/svg+xml", "application/octet-stream"),
        ("evil.png", "image/png", "image/png"),
        ("plain.txt", "text/plain", "text/plain; charset=utf-8"),
    ] {
        write(&platform, &run, name, media_type, page).await;
        let response = platform.get(&format!("/tasks/{id}/artifacts/{name}")).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let headers = response.headers();
        assert_eq!(text(headers, header::CONTENT_TYPE), sent);
        assert_eq!(text(headers, header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        assert!(text(headers, header::CONTENT_SECURITY_POLICY).starts_with("sandbox"));
        let disposition = text(headers, header::CONTENT_DISPOSITION);
        assert!(disposition.starts_with("attachment;") && disposition.contains(name), "{disposition}");
    }
}

#[tokio::test]
async fn a_copy_that_is_there_is_not_sent_again() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    let run = Run::of(&platform, id).await;
    write(&platform, &run, "a.txt", "text/plain", b"one").await;
    let url = format!("/tasks/{id}/artifacts/a.txt");
    let first = platform.get(&url).send().await.unwrap();
    let tag = text(first.headers(), header::ETAG).to_owned();
    let same = platform.get(&url).header(header::IF_NONE_MATCH, &tag).send().await.unwrap();
    assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
    assert!(same.bytes().await.unwrap().is_empty());
    write(&platform, &run, "a.txt", "text/plain", b"two").await;
    let newer = platform.get(&url).header(header::IF_NONE_MATCH, &tag).send().await.unwrap();
    assert_eq!((newer.status(), newer.bytes().await.unwrap().as_ref()), (StatusCode::OK, &b"two"[..]));
}

#[tokio::test]
async fn what_is_not_kept_with_the_task_cannot_be_had() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    let run = Run::of(&platform, id).await;
    write(&platform, &run, "a.txt", "text/plain", b"one").await;
    for name in
        ["b.txt", "A.txt", "a.txt/", "x%2f..%2fa.txt", "%2e%2e/a.txt", "..%2f..%2fetc%2fpasswd", "%2Fetc%2Fpasswd"]
    {
        let url = format!("{}/tasks/{id}/artifacts/{name}", platform.url);
        let response = platform.http.get(&url).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{name}");
    }
    let (_, problem) = answer(platform.get(&format!("/tasks/{id}/artifacts/b.txt"))).await;
    assert_eq!(problem["type"], "/errors/unknown-artifact");
    let stranger = TaskId(Uuid::from_u128(99));
    for path in ["artifacts", "artifacts/a.txt"] {
        let (_, problem) = answer(platform.get(&format!("/tasks/{stranger}/{path}"))).await;
        assert_eq!(problem["type"], json!("/errors/unknown-task"), "{path}");
    }
    let (status, _) = answer(platform.get(&format!("/tasks/{id}/artifacts/a%00.txt"))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn bytes_that_are_gone_are_told_as_such() {
    let platform = Platform::start().await;
    let id = platform.submit().await;
    let run = Run::of(&platform, id).await;
    write(&platform, &run, "a.txt", "text/plain", b"one").await;
    platform.blobs.delete(blake3::hash(b"one").as_bytes()).await.unwrap();
    let (status, problem) = answer(platform.get(&format!("/tasks/{id}/artifacts/a.txt"))).await;
    assert_eq!((status, &problem["detail"]), (StatusCode::INTERNAL_SERVER_ERROR, &json!("the file's bytes are gone")));
}

/// Makes all blobs look as if they were put two days ago.
fn age(folder: &std::path::Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            age(&path);
        } else {
            let file = std::fs::File::options().append(true).open(&path).unwrap();
            let modified = file.metadata().unwrap().modified().unwrap();
            file.set_modified(modified - std::time::Duration::from_hours(48)).unwrap();
        }
    }
}

#[tokio::test]
async fn blobs_that_nothing_refers_to_are_deleted_once_they_are_old() {
    let platform = Platform::with(|config| {
        config.orchestrator_blob_interval = domain::HumanDuration(std::time::Duration::from_millis(20));
    })
    .await;
    let id = platform.submit().await;
    let run = Run::of(&platform, id).await;
    write(&platform, &run, "kept.txt", "text/plain", b"kept").await;
    write(&platform, &run, "again.txt", "text/plain", b"first").await;
    write(&platform, &run, "again.txt", "text/plain", b"second").await;
    let lost = platform.blobs.put(Bytes::from_static(b"its task died before it was recorded")).await.unwrap();
    age(&platform.blob_folder());
    let young = platform.blobs.put(Bytes::from_static(b"about to be recorded")).await.unwrap();
    let replaced = *blake3::hash(b"first").as_bytes();
    for digest in [lost, replaced] {
        until("it is deleted", async || platform.blobs.get(&digest).await.unwrap().is_none()).await;
    }
    for (name, bytes) in [("kept.txt", &b"kept"[..]), ("again.txt", b"second")] {
        assert_eq!(platform.client.artifact(id, name).await.unwrap(), bytes);
    }
    assert!(platform.blobs.get(&young).await.unwrap().is_some());
    platform.stop().await;
}
