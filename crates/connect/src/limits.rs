//! The operator's file of limits: what namespaces may spend, and how many of their tasks run and start.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use domain::PlatformLimits;
use domain::file::{FileProblem, MAX_FILE_BYTES};

/// The file of limits when no other is named; it need not be there.
pub const LIMITS_FILE: &str = "config/limits.yml";

/// Why the limits are not known; starting without them could cost what they are there to prevent.
#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is wrong.
    #[error("{}", shown(.0))]
    Wrong(Vec<FileProblem>),
}

/// Reads the limits. Without a file at the usual place there are none; one that was named must be there.
pub fn read_limits(path: &Path) -> Result<PlatformLimits, LimitsError> {
    let read = || {
        let mut text = Vec::new();
        std::fs::File::open(path)?.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut text)?;
        Ok(text)
    };
    let text = match read() {
        Ok(text) => text,
        Err(error) if is_missing(&error) && path == Path::new(LIMITS_FILE) => return Ok(PlatformLimits::default()),
        Err(source) => return Err(LimitsError::Unreadable { path: path.to_owned(), source }),
    };
    PlatformLimits::parse(&path.to_string_lossy(), &text).map_err(LimitsError::Wrong)
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

fn shown(problems: &[FileProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  ")
}

#[cfg(test)]
mod tests {
    use domain::Namespace;

    use super::*;

    #[test]
    fn only_the_usual_file_may_be_missing() {
        assert_eq!(read_limits(Path::new(LIMITS_FILE)).expect("none"), PlatformLimits::default());
        let error = read_limits(Path::new("no/such/limits.yml")).expect_err("it was named");
        assert_eq!(error.to_string(), "no/such/limits.yml cannot be read");
    }

    #[test]
    fn a_file_is_read_or_its_problems_are_told() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("limits.yml");
        std::fs::write(&path, "namespaces: {default: {queue: {concurrency: 2}}}\n").expect("written");
        let limits = read_limits(&path).expect("sound");
        assert_eq!(limits.of(&Namespace::default()).queue.concurrency, Some(2));
        std::fs::write(&path, "namespaces: {default: {queue: {concurency: 2}}}\n").expect("written");
        let error = read_limits(&path).expect_err("misspelt").to_string();
        assert!(error.ends_with("unknown field; did you mean concurrency?"), "{error}");
    }
}
