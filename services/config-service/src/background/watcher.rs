//! Looks at the folder when the system tells of a change, and every second all the same: what tells of changes is quick
//! and forgets some (a folder that was replaced, a network mount, a queue that ran over); a look forgets none.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::app::reconciler::Reconciler;

/// How long further changes are waited for after the first one; also the shortest time between two looks.
const GATHER: Duration = Duration::from_millis(50);
/// How long the first look may take.
const FIRST: Duration = Duration::from_secs(5);
/// How soon to look again while something is being changed.
const SOON: Duration = Duration::from_millis(150);

/// Tells that something in the folder changed, when the system says so.
pub(crate) struct Wakeups {
    changed: Arc<Notify>,
    _watcher: Option<RecommendedWatcher>,
}

impl Wakeups {
    /// Begins to listen; where that is not possible, looks alone have to do.
    pub(crate) fn watch(dir: &Path) -> Self {
        let changed = Arc::new(Notify::new());
        let wake = Arc::clone(&changed);
        let watching = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| is_change(event.kind)) {
                wake.notify_one();
            }
        })
        .and_then(|mut watcher| watcher.watch(dir, RecursiveMode::NonRecursive).map(|()| watcher));
        let watcher = watching
            .inspect_err(|error| {
                tracing::info!(folder = %dir.display(), %error, "changes are found by looking every second");
            })
            .ok();
        Self { changed, _watcher: watcher }
    }
}

/// Our own looks open and close files; to wake up by them would never end.
fn is_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

/// How a round went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    /// Nothing is being changed.
    AtRest,
    /// Something is being changed: look again soon.
    Moving,
}

/// Looks at the folder before the service counts as started, unless the record does not answer in time: that is tried
/// again in the background.
pub(crate) async fn first_round(reconciler: &mut Reconciler, stop: &CancellationToken) -> Round {
    tokio::select! {
        round = round(reconciler) => round,
        () = tokio::time::sleep(FIRST) => Round::Moving,
        () = stop.cancelled() => Round::AtRest,
    }
}

async fn round(reconciler: &mut Reconciler) -> Round {
    match reconciler.round().await {
        Ok(true) => Round::Moving,
        Ok(false) => Round::AtRest,
        Err(error) => {
            tracing::warn!(%error, "the agents' files could not be recorded, trying again");
            Round::AtRest
        }
    }
}

/// Looks again and again until the soft stop.
pub(crate) async fn run(
    mut reconciler: Reconciler,
    wakeups: Wakeups,
    mut last: Round,
    poll: Duration,
    stop: CancellationToken,
) {
    loop {
        let pause = if last == Round::Moving { SOON } else { poll };
        tokio::select! {
            () = stop.cancelled() => return,
            () = wakeups.changed.notified(), if last == Round::AtRest => tokio::time::sleep(GATHER).await,
            () = tokio::time::sleep(pause) => {}
        }
        last = round(&mut reconciler).await;
    }
}
