//! What is special about blobs in a folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blob::{BlobError, Blobs, Folder, hex};
use bytes::Bytes;

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[tokio::test]
async fn a_blob_is_one_file_named_by_its_digest_and_nothing_else_is_left() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Folder::new(dir.path());
    let digest = store.put(Bytes::from_static(b"hello")).await.expect("put");
    let name = hex(&digest);
    assert_eq!(files(dir.path()), [dir.path().join(&name[..2]).join(&name[2..])]);
}

#[tokio::test]
async fn a_folder_is_found_again_by_another_process() {
    let dir = tempfile::tempdir().expect("a folder");
    let digest = Folder::new(dir.path()).put(Bytes::from_static(b"kept")).await.expect("put");
    let found = Folder::new(dir.path()).get(&digest).await.expect("get");
    assert_eq!(found.as_deref(), Some(&b"kept"[..]));
}

#[tokio::test]
async fn a_changed_file_is_told_and_not_handed_out() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Folder::new(dir.path());
    let digest = store.put(Bytes::from_static(b"hello")).await.expect("put");
    fs::write(&files(dir.path())[0], b"hellO").expect("written");
    let error = store.get(&digest).await.expect_err("damaged");
    assert!(matches!(&error, BlobError::Damaged(name) if *name == hex(&digest)), "{error}");
}

#[tokio::test]
async fn a_damaged_blob_is_mended_by_the_same_bytes() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Folder::new(dir.path());
    let digest = store.put(Bytes::from_static(b"hello")).await.expect("put");
    // As after a power cut in a file system that kept the name and lost the bytes.
    fs::write(&files(dir.path())[0], b"").expect("written");
    assert_eq!(store.put(Bytes::from_static(b"hello")).await.expect("put"), digest);
    assert!(store.get(&digest).await.expect("get").is_some());
}

#[tokio::test]
async fn strangers_in_the_folder_are_left_alone_and_broken_off_writes_are_cleared_away() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Folder::new(dir.path());
    let digest = store.put(Bytes::from_static(b"hello")).await.expect("put");
    let part = dir.path().join(format!("{}.99999.0.part", hex(&digest)));
    let stranger = dir.path().join("README");
    for path in [&part, &stranger] {
        fs::write(path, b"half").expect("written");
    }
    let hour = Duration::from_hours(1);
    let now = fs::metadata(&part).and_then(|part| part.modified()).expect("a time");
    store.older_than(now - hour, None, 10).await.expect("list");
    assert!(part.exists(), "it may still be written");
    let old = store.older_than(now + hour, None, 10).await.expect("list");
    assert_eq!(old, [digest]);
    assert!(!part.exists() && stranger.exists());
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_says_which_and_why() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("file");
    fs::write(&file, b"").expect("written");
    let store = Folder::new(&file);
    for error in
        [store.ping().await.expect_err("no folder"), store.put(Bytes::from_static(b"x")).await.expect_err("no folder")]
    {
        let text = error.to_string();
        assert!(matches!(error, BlobError::Unavailable(_)) && text.contains("file"), "{text}");
    }
}
