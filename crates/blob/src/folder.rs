//! Blobs in a local folder: one file a blob, in 256 folders by the first byte of its digest.
//!
//! A file appears under its name only when it is whole and durable. Several processes may share a folder without locks:
//! who clears a blob away first takes it aside, looks how old it is now, and puts it back when somebody put it meanwhile;
//! who puts a blob that is there looks again afterwards whether it still is.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{BlobError, Blobs, Digest, hex};

/// The ends of the names of files that are no blobs yet, or no more.
const PASSING: [&str; 2] = ["part", "gone"];

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

    /// Where a blob is while it is decided whether it goes.
    fn aside(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{}.gone", hex(digest)))
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, BlobError> {
        let own = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&own)).await;
        let done = done.map_err(|error| BlobError::Unavailable(error.to_string()))?;
        done.map_err(|error| unavailable(&self.dir, &error))
    }

    fn write(&self, digest: &Digest, bytes: &[u8]) -> std::io::Result<()> {
        let path = self.path(digest);
        if touch(&path, bytes.len() as u64)? && path.exists() {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(&self.dir);
        fs::create_dir_all(folder)?;
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let part = self.dir.join(format!("{}.{}.{number}.part", hex(digest), std::process::id()));
        let written = OpenOptions::new().write(true).create_new(true).open(&part).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
            File::open(folder)?.sync_all()?;
            // The folder itself may be new.
            File::open(&*self.dir)?.sync_all()
        });
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        written
    }

    fn read(&self, digest: &Digest) -> std::io::Result<Option<Bytes>> {
        let path = self.path(digest);
        // One that is aside may come back.
        for path in [&path, &self.aside(digest), &path] {
            match fs::read(path) {
                Ok(bytes) => return Ok(Some(Bytes::from(bytes))),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn take_away(&self, digest: &Digest, moment: SystemTime) -> std::io::Result<bool> {
        let (path, aside) = (self.path(digest), self.aside(digest));
        match fs::metadata(&path) {
            Ok(found) if found.modified()? >= moment => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        if !existed(fs::rename(&path, &aside))? {
            return Ok(false);
        }
        if fs::metadata(&aside)?.modified()? >= moment {
            fs::rename(&aside, &path)?;
            return Ok(false);
        }
        existed(fs::remove_file(&aside))
    }

    /// Deletes what writers and deleters that died left behind before a moment.
    fn tidy(&self, moment: SystemTime) -> std::io::Result<()> {
        for path in sorted(&self.dir)? {
            let passing = path.extension().and_then(|end| end.to_str()).is_some_and(|end| PASSING.contains(&end));
            if passing && fs::metadata(&path).and_then(|found| found.modified()).is_ok_and(|at| at < moment) {
                existed(fs::remove_file(&path))?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Blobs for Folder {
    async fn put(&self, bytes: Bytes) -> Result<Digest, BlobError> {
        self.work(move |own| {
            let digest: Digest = *blake3::hash(&bytes).as_bytes();
            own.write(&digest, &bytes)?;
            Ok(digest)
        })
        .await
    }

    async fn get(&self, digest: &Digest) -> Result<Option<Bytes>, BlobError> {
        let wanted = *digest;
        let found = self
            .work(move |own| {
                let found = own.read(&wanted)?;
                Ok(found.map(|bytes| (*blake3::hash(&bytes).as_bytes() == wanted, bytes)))
            })
            .await?;
        match found {
            Some((false, _)) => Err(BlobError::Damaged(hex(digest))),
            found => Ok(found.map(|(_, bytes)| bytes)),
        }
    }

    async fn delete(&self, digest: &Digest) -> Result<bool, BlobError> {
        let wanted = *digest;
        self.work(move |own| existed(fs::remove_file(own.path(&wanted)))).await
    }

    async fn clear(&self, digest: &Digest, moment: SystemTime) -> Result<bool, BlobError> {
        let wanted = *digest;
        self.work(move |own| own.take_away(&wanted, moment)).await
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
            if after.is_none() {
                own.tidy(moment)?;
            }
            let begin = after.map(|after| own.dir.join(&hex(&after)[..2]));
            for folder in sorted(&own.dir)?.into_iter().filter(|folder| begin.as_ref() <= Some(folder)) {
                for path in sorted(&folder)? {
                    let Some(digest) = digest_of(&path) else { continue };
                    if after.is_some_and(|after| digest <= after) {
                        continue;
                    }
                    // Another process may have deleted it since.
                    let Ok(metadata) = fs::metadata(&path) else { continue };
                    if metadata.modified()? < moment {
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

/// Makes a blob that is there young; false when it is not there, or not of this size.
///
/// A blob that is put again must not be taken for an old one that nothing refers to.
#[expect(clippy::disallowed_methods, reason = "the file system's clock is the one that a new file's age is by")]
fn touch(path: &Path, size: u64) -> std::io::Result<bool> {
    let file = match File::options().append(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() != size {
        return Ok(false);
    }
    file.set_modified(SystemTime::now())?;
    Ok(true)
}

fn existed(done: std::io::Result<()>) -> std::io::Result<bool> {
    match done {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn unavailable(dir: &Path, error: &std::io::Error) -> BlobError {
    let dir = dir.display();
    BlobError::Unavailable(match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            format!("there is no room left for {dir}: free some space, or give it a larger disk")
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            format!("{dir} cannot be written ({error}): let this user write to it")
        }
        _ => format!("{dir}: {error}"),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_in_words_that_say_what_to_do() {
        let error = unavailable(Path::new("data/blobs"), &std::io::Error::from(ErrorKind::StorageFull));
        let text = error.to_string();
        assert!(text.contains("data/blobs") && text.contains("free some space"), "{text}");
    }
}
