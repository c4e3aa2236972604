//! How a process stops: one owner for all background tasks and for both stages of a shutdown.
//!
//! *Soft* means: take no new work, finish or give back what is held. *Hard* means: stop now. A task that dies on its own
//! begins a shutdown, because a service with a dead part looks alive and is not.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long tasks have after the hard stop before they are dropped.
const HARD_GRACE: Duration = Duration::from_secs(2);

/// Owns the tasks of a process and stops them in two stages. Clones share everything.
#[derive(Clone, Default)]
pub struct Lifecycle {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    soft: CancellationToken,
    hard: CancellationToken,
    dropped: CancellationToken,
    tracker: TaskTracker,
    state: Mutex<Tasks>,
}

#[derive(Default)]
struct Tasks {
    next: u64,
    running: BTreeMap<u64, Cow<'static, str>>,
    failures: Vec<String>,
}

/// What a task's future may return: nothing, or a result whose error means that the task died.
pub trait TaskEnd {
    /// Why the task died, if it did.
    fn failure(self) -> Option<String>;
}

impl TaskEnd for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<E: fmt::Display> TaskEnd for Result<(), E> {
    fn failure(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Tasks that died on their own, and why.
    pub failures: Vec<String>,
    /// Tasks that had to be dropped because they did not stop in time.
    pub unfinished: Vec<String>,
}

impl Exit {
    /// The process's exit code: 0 when every task stopped in time and none died.
    pub fn code(&self) -> i32 {
        i32::from(!self.failures.is_empty() || !self.unfinished.is_empty())
    }
}

impl Lifecycle {
    /// Makes a lifecycle that has not begun to stop.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when no new work is to be taken.
    pub fn soft(&self) -> &CancellationToken {
        &self.inner.soft
    }

    /// Cancelled when everything is to stop now; never before [`Lifecycle::soft`].
    pub fn hard(&self) -> &CancellationToken {
        &self.inner.hard
    }

    /// Runs a task that [`Lifecycle::wait`] waits for.
    ///
    /// The task ends by itself soon after `soft`, at the latest after `hard`; what still runs a little later is dropped.
    /// A panic or an error begins a shutdown and makes the exit code non-zero.
    pub fn spawn<F>(&self, name: impl Into<Cow<'static, str>>, future: F)
    where
        F: Future<Output: TaskEnd> + Send + 'static,
    {
        let lifecycle = self.clone();
        let name = name.into();
        let id = {
            let mut tasks = self.tasks();
            tasks.next += 1;
            let id = tasks.next;
            tasks.running.insert(id, name.clone());
            id
        };
        self.inner.tracker.spawn(async move {
            // Converted inside the future, so that nothing of the output's type has to cross an await.
            let future = AssertUnwindSafe(async move { future.await.failure() }).catch_unwind();
            let failure = tokio::select! {
                biased;
                ended = future => ended.unwrap_or_else(|panic| Some(format!("panicked: {}", panic_text(&*panic)))),
                () = lifecycle.inner.dropped.cancelled() => return,
            };
            lifecycle.tasks().running.remove(&id);
            if let Some(reason) = failure {
                tracing::error!(task = %name, %reason, "a task died");
                lifecycle.fail(format!("{name}: {reason}"));
            }
        });
    }

    /// Begins a shutdown; asking again is harmless.
    pub fn shutdown(&self) {
        self.inner.soft.cancel();
    }

    /// Begins a shutdown that ends with a non-zero exit code.
    pub fn fail(&self, reason: impl Into<String>) {
        self.tasks().failures.push(reason.into());
        self.shutdown();
    }

    /// Begins a shutdown at SIGTERM or SIGINT; a second one ends the process at once.
    pub fn listen_to_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};

        let mut term = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let lifecycle = self.clone();
        // Not tracked: it lives as long as the process, so that the second signal is heard in the middle of a shutdown.
        tokio::spawn(async move {
            for again in [false, true] {
                let name = tokio::select! {
                    _ = term.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if again {
                    tracing::warn!(signal = name, "second signal, exiting at once");
                    std::process::exit(if name == "SIGTERM" { 143 } else { 130 });
                }
                tracing::info!(signal = name, "stopping");
                lifecycle.shutdown();
            }
        });
        Ok(())
    }

    /// Waits for the shutdown to begin and then for all tasks: `timeout` after the soft stop comes the hard one.
    pub async fn wait(&self, timeout: Duration) -> Exit {
        let inner = &self.inner;
        inner.soft.cancelled().await;
        inner.tracker.close();
        if tokio::time::timeout(timeout, inner.tracker.wait()).await.is_err() {
            tracing::warn!(tasks = ?self.running(), "stopping hard");
        }
        inner.hard.cancel();
        let unfinished = if tokio::time::timeout(HARD_GRACE, inner.tracker.wait()).await.is_err() {
            let unfinished = self.running();
            tracing::error!(tasks = ?unfinished, "dropping tasks that did not stop");
            inner.dropped.cancel();
            unfinished
        } else {
            Vec::new()
        };
        Exit { failures: self.tasks().failures.clone(), unfinished }
    }

    /// The names of the tasks that run.
    pub fn running(&self) -> Vec<String> {
        self.tasks().running.values().map(ToString::to_string).collect()
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Tasks> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifecycle")
            .field("soft", &self.inner.soft.is_cancelled())
            .field("hard", &self.inner.hard.is_cancelled())
            .field("running", &self.running())
            .finish()
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
