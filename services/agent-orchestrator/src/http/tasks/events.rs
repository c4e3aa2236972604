//! Streams what happens in a task.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use common::extract::Path;
use common::problem::Problem;
use futures::Stream;
use futures::stream;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc;
use tracing::{debug, warn};
use wire::{JournalStep, event_name};

use super::TaskPath;
use crate::app::{Told, Watch, WatchError};
use crate::http::App;
use crate::http::caller::Caller;
use crate::http::headers::LastEventId;

/// How many events wait for a slow reader, beside what the connection itself buffers.
const BUFFER: usize = 16;
/// How long a reader may take nothing before it is let go; it can resume where it stopped.
const STALLED: Duration = Duration::from_secs(30);
/// After how long a reader whose stream broke off should come back.
const COME_BACK: Duration = Duration::from_secs(1);

/// Streams a task's journal, and then what happens, until the task ends.
///
/// Server-sent events. `task.step` (id `SEQ`) is a finished step, `task.delta` (id `SEQ-EPOCH-CALL-N`) a piece of the
/// answer that will become step `SEQ`, `task.restart` makes the pieces of its step void as the step is spoken anew,
/// `task.status` shows a change of status, `task.progress` how far a tool is and `budget.warning` that a budget is nearly used up
/// (both are hints without ids, which a reader that comes back is not told again), and `task.finished` (id `end`) the whole task, after which the stream ends. A
/// finished step's text replaces its pieces.
///
/// A reader that comes back with `Last-Event-ID` is told everything after that event, and nothing twice.
#[utoipa::path(get, path = "/tasks/{task_id}/events", operation_id = "task_events", tag = "tasks",
    params(TaskPath, ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was read",
        example = "12-3-1-40")),
    responses(
        (status = 200, description = "The events", content_type = "text/event-stream", body = String,
            example = "event: task.delta\nid: 1-1-1-1\ndata: {\"seq\":1,\"epoch\":1,\"call\":1,\"n\":1,\"text\":\"Three\"}\n\n"),
        WatchError
    ))]
pub(crate) async fn task_events(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<TaskPath>,
    LastEventId(resume): LastEventId,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let permit =
        Arc::clone(&app.streams).try_acquire_owned().map_err(|_| WatchError::TooMany { limit: app.max_streams })?;
    let watch = app.tasks.watch(&caller.namespace, path.task_id, resume).await?;
    let (sender, receiver) = mpsc::channel(BUFFER);
    // It ends with the response, which the server ends at the soft stop.
    tokio::spawn(pump(watch, sender, permit));
    let events = stream::unfold(receiver, async |mut receiver| Some((Ok(receiver.recv().await?), receiver)));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(app.heartbeat)))
}

/// Hands on what the watcher is told, as fast as the reader takes it.
async fn pump(mut watch: Watch, sender: mpsc::Sender<Event>, _permit: OwnedSemaphorePermit) {
    let mut next = Some(Event::default().retry(COME_BACK));
    while let Some(event) = next {
        if sender.send_timeout(event, STALLED).await.is_err() {
            debug!("an event stream's reader is gone or stalled");
            return;
        }
        let told = tokio::select! {
            told = watch.next() => told,
            () = sender.closed() => return,
        };
        next = match told {
            Ok(told) => told.map(|told| event_of(&told)),
            Err(error) => {
                // The reader comes back by itself, and resumes.
                warn!(%error, "an event stream broke off");
                return;
            }
        };
    }
}

fn event_of(told: &Told) -> Event {
    let (name, data) = match told {
        Told::Status(status) => (event_name::STATUS, json(status)),
        Told::Step(step) => (event_name::STEP, json(&JournalStep(domain::Step::clone(step)))),
        Told::Delta(delta) => (event_name::DELTA, json(delta)),
        Told::Restart(restart) => (event_name::RESTART, json(restart)),
        Told::Progress(progress) => (event_name::PROGRESS, json(progress)),
        Told::Budget(warning) => (event_name::BUDGET, json(warning)),
        Told::Finished(task) => (event_name::FINISHED, json(task)),
    };
    let event = Event::default().event(name).data(data);
    match told.id() {
        Some(id) => event.id(id),
        None => event,
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
