//! Blobs in a local folder: one file a blob, in 256 folders by the first byte of its digest.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{BlobError, Blobs, Digest, hex};

/// A folder of blobs. Several processes may share it.
#[derive(Clone)]
pub struct Folder {
    dir: Arc<PathBuf>,
    written: Arc<AtomicU64>,
}

impl Folder {
    /// Uses a folder; it is made with the first blob.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: Arc::new(dir.into()), written: Arc::default() }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let name = hex(digest);
        self.dir.join(&name[..2]).join(&name[2..])
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, BlobError> {
        let own = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&own)).await;
        let unavailable = |error: &dyn std::fmt::Display| BlobError::Unavailable(error.to_string());
        done.map_err(|error| unavailable(&error))?.map_err(|error| unavailable(&error))
    }

    fn write(&self, digest: &Digest, bytes: &[u8]) -> std::io::Result<()> {
        let path = self.path(digest);
        if path.exists() {
            // A blob that is put again must not be taken for an old one that nothing refers to.
            return File::options().append(true).open(&path)?.set_modified(SystemTime::now());
        }
        let folder = path.parent().unwrap_or(&self.dir);
        fs::create_dir_all(folder)?;
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let part = self.dir.join(format!("{}.{}.{number}.part", hex(digest), std::process::id()));
        let written = OpenOptions::new().write(true).create_new(true).open(&part).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
            File::open(folder)?.sync_all()
        });
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        written
    }
}

#[async_trait]
impl Blobs for Folder {
    async fn put(&self, bytes: Bytes) -> Result<Digest, BlobError> {
        let digest: Digest = *blake3::hash(&bytes).as_bytes();
        self.work(move |own| own.write(&digest, &bytes)).await?;
        Ok(digest)
    }

    async fn get(&self, digest: &Digest) -> Result<Option<Bytes>, BlobError> {
        let wanted = *digest;
        let found = self
            .work(move |own| match fs::read(own.path(&wanted)) {
                Ok(bytes) => Ok(Some(Bytes::from(bytes))),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            })
            .await?;
        match found {
            Some(bytes) if blake3::hash(&bytes).as_bytes() != digest => Err(BlobError::Damaged(hex(digest))),
            found => Ok(found),
        }
    }

    async fn delete(&self, digest: &Digest) -> Result<bool, BlobError> {
        let wanted = *digest;
        self.work(move |own| match fs::remove_file(own.path(&wanted)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        })
        .await
    }

    async fn older_than(
        &self,
        moment: SystemTime,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<Digest>, BlobError> {
        let after = after.copied();
        self.work(move |own| {
            let mut found = Vec::new();
            for first in sorted(&own.dir)? {
                for path in sorted(&first)? {
                    let Some(digest) = digest_of(&path) else { continue };
                    if after.is_none_or(|after| digest > after) && fs::metadata(&path)?.modified()? < moment {
                        found.push(digest);
                        if found.len() >= limit {
                            return Ok(found);
                        }
                    }
                }
            }
            Ok(found)
        })
        .await
    }

    async fn ping(&self) -> Result<(), BlobError> {
        self.work(|own| fs::create_dir_all(&*own.dir)).await
    }
}

fn sorted(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}

fn digest_of(path: &Path) -> Option<Digest> {
    let rest = path.file_name()?.to_str()?;
    let first = path.parent()?.file_name()?.to_str()?;
    blake3::Hash::from_hex(format!("{first}{rest}")).ok().map(|hash| *hash.as_bytes())
}
