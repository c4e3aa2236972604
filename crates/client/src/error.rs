//! What can go wrong when the platform is asked.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

/// Why a request did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address of the platform is no address.
    #[error("{address:?} is no address of the platform: {reason}")]
    Address {
        /// What was given.
        address: String,
        /// Why it is none.
        reason: String,
    },
    /// The call needs the config service, and its address was not given.
    #[error("the address of the config service is not known")]
    NoConfigService,
    /// The server refused, and said why.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// The server could not be reached, or the connection broke off.
    #[error("no answer from {url}")]
    Transport {
        /// What was asked.
        url: String,
        /// What happened.
        #[source]
        source: reqwest::Error,
    },
    /// Something answered that does not speak this API.
    #[error(
        "{url} answered in a way that is not understood ({reason}): is it this platform, and as new as this client?"
    )]
    NotUnderstood {
        /// What was asked.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// An event stream broke off, and could not be taken up again.
    #[error("the events of task {task} broke off, and {attempts} attempts to take them up again failed")]
    StreamLost {
        /// The task.
        task: domain::TaskId,
        /// How often it was tried.
        attempts: u32,
        /// The last failure.
        #[source]
        source: Option<Box<ClientError>>,
    },
}

impl ClientError {
    /// The server's problem, if it sent one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    /// The HTTP status of the server's problem.
    pub fn status(&self) -> Option<u16> {
        self.problem().map(|problem| problem.status)
    }

    /// Tells whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transport { .. } => true,
            Self::Problem(problem) => matches!(problem.status, 408 | 429 | 502 | 503 | 504),
            _ => false,
        }
    }
}

/// An error as the server sent it (RFC 9457).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// Names the error for programs: `/errors/unknown-task`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The error in words; the same for every occurrence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// This occurrence in words.
    pub detail: Option<String>,
    /// What is wrong with the request, place by place.
    pub errors: Vec<Fault>,
    /// Finds the request in the server's logs.
    pub trace_id: Option<String>,
    /// When another try may go better, from the header `Retry-After`.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

/// One fault of a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Fault {
    /// Where.
    pub pointer: String,
    /// Why it is not accepted.
    pub reason: String,
    /// What was probably meant.
    #[serde(default)]
    pub hint: Option<String>,
}

impl Problem {
    /// The last part of the type: `unknown-task`.
    pub fn slug(&self) -> &str {
        self.kind.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.detail {
            Some(detail) => write!(f, "{}: {detail}", self.title)?,
            None => f.write_str(&self.title)?,
        }
        for fault in &self.errors {
            write!(f, "\n  {}: {}", fault.pointer, fault.reason)?;
            if let Some(hint) = &fault.hint {
                write!(f, " ({hint})")?;
            }
        }
        Ok(())
    }
}
