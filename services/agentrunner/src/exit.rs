//! How a command ends: its exit code, and what it says when it could not do its work.

use std::fmt;
use std::fmt::Write as _;

use crate::terminal::{Paint, Stream};

/// The exit codes, for `--help` and the documentation.
pub const CODES: &str = "\
Exit codes:
  0    done; the task succeeded
  1    the task failed, or the platform refused the request
  2    the command line or a file is wrong
  3    no platform could be reached or started
  4    the task was cancelled
  5    time ran out
  130  interrupted; the task goes on";

/// A command's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; the task succeeded.
    Done = 0,
    /// The task failed, or the platform refused the request.
    Failed = 1,
    /// The command line or a file is wrong.
    Usage = 2,
    /// No platform could be reached or started.
    Unreachable = 3,
    /// The task was cancelled.
    Cancelled = 4,
    /// Time ran out.
    TimedOut = 5,
    /// Interrupted; what was begun goes on.
    Interrupted = 130,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command could not do its work.
#[derive(Debug)]
pub struct CommandError {
    /// Its exit code.
    pub exit: Exit,
    /// What happened, for a person; it may quote others.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// What a command returns.
pub type CommandResult = Result<Exit, CommandError>;

impl CommandError {
    /// Makes an error.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// The request was refused, or the work failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The command line or a file is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// No platform could be reached or started.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(Exit::Unreachable, message)
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Tells it to a person.
    pub fn print(&self, stderr: Stream) {
        if self.message.is_empty() {
            return;
        }
        let message = stderr.text(&self.message);
        let mut text = format!("{} {message}", stderr.paint(Paint::Red, "error:"));
        if let Some(hint) = &self.hint {
            let _ = write!(text, "\n{} {}", stderr.paint(Paint::Dim, "hint:"), stderr.text(hint));
        }
        eprintln!("{text}");
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CommandError {}

impl From<std::io::Error> for CommandError {
    /// Standard output that cannot be written: when its reader went away, that is nobody's fault and needs no words.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self::failed("")
        } else {
            Self::failed(format!("could not write the output: {error}"))
        }
    }
}

/// An error with everything that caused it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries repeat their source in their own words.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
