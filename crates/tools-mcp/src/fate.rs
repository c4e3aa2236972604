//! What became of a connection, in words for a person.

use std::fmt::Write as _;
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Why a connection ended, gathered from all who notice something; the first verdict stays.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    known: Mutex<Known>,
    /// Cancelled when the connection must not be used any more.
    pub(crate) over: CancellationToken,
    /// Cancelled when nothing is left of the server's program.
    pub(crate) gone: CancellationToken,
}

#[derive(Debug, Default)]
struct Known {
    verdict: Option<String>,
    status: Option<ExitStatus>,
    complaint: Option<String>,
}

impl Fate {
    /// Ends the connection: the server broke the rules.
    pub(crate) fn broken(&self, why: impl Into<String>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.verdict.get_or_insert_with(|| why.into());
        drop(known);
        self.over.cancel();
    }

    /// Notes how the program ended.
    pub(crate) fn ended(&self, status: ExitStatus) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).status = Some(status);
    }

    /// Notes the last thing that the program complained of.
    pub(crate) fn complained(&self, what: String) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).complaint = Some(what);
    }

    /// Waits, not for long, until all is known of how a program ended.
    pub(crate) async fn settled(&self) {
        let _ = tokio::time::timeout(Duration::from_secs(3), self.gone.cancelled()).await;
    }

    /// Says why the connection is over.
    pub(crate) fn reason(&self) -> String {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reason = known.verdict.clone().unwrap_or_else(|| "the connection ended".to_owned());
        if let Some(code) = known.status.and_then(|status| status.code()).filter(|code| *code != 0) {
            let _ = write!(reason, "; its program ended with exit code {code}");
        }
        if let Some(complaint) = &known.complaint {
            let _ = write!(reason, "; it last said: {complaint:.300}");
        }
        reason
    }
}
