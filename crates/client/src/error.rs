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
    /// Where in the request: a JSON pointer, or `path.NAME`, `query.NAME`, `header.NAME`.
    #[serde(default)]
    pub pointer: String,
    /// The agent's file that it is about, if it is about one.
    #[serde(default)]
    pub file: Option<String>,
    /// The line of that file, from 1; 0 when it is about the file as a whole.
    #[serde(default)]
    pub line: u32,
    /// The column of that line, from 1.
    #[serde(default)]
    pub column: u32,
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
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) if self.line > 0 => write!(f, "{file}:{}:{}: ", self.line, self.column)?,
            Some(file) => write!(f, "{file}: ")?,
            None => {}
        }
        if !self.pointer.is_empty() {
            write!(f, "{}: ", self.pointer)?;
        }
        f.write_str(&self.reason)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_with_the_places_of_its_faults() {
        let problem: Problem = serde_json::from_value(serde_json::json!({
            "type": "/errors/invalid-agent", "title": "The agent's definition has faults", "status": 422,
            "detail": "one thing",
            "errors": [
                { "file": "a.yml", "line": 3, "column": 5, "path": "limits.max", "pointer": "/limits/max", "reason": "no" },
                { "pointer": "/prompt", "reason": "must not be empty", "hint": "say what to do" }
            ]
        }))
        .unwrap();
        assert_eq!(
            problem.to_string(),
            "The agent's definition has faults: one thing\n  a.yml:3:5: /limits/max: no\n  /prompt: must not be empty \
             (say what to do)"
        );
        assert_eq!(problem.slug(), "invalid-agent");
    }
}
