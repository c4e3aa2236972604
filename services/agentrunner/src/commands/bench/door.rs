//! The two doors by which a benchmark's tasks enter: the use cases in this process, and REST.
//!
//! Behind both a task goes the ordinary way: submit, hint, claim, driver, journal, finish.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_orchestrator::app::Tasks;
use bus::{Events, Received};
use client::Client;
use domain::{EventBody, Namespace, TaskId, TaskStatus};
use futures::StreamExt as _;
use tokio::sync::oneshot;
use wire::{SubmitTask, TaskView};

use crate::exit::{CommandError, chain};

/// How long one task may take before the benchmark gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where tasks enter and come out.
#[derive(Clone)]
pub(super) enum Door {
    /// The orchestrator's use cases, called in this process.
    Direct { tasks: Tasks, ends: Ends },
    /// The REST API.
    Rest(Client),
}

impl Door {
    /// Submits a task; when it is answered, the task is committed.
    pub(super) async fn submit(&self, request: SubmitTask) -> Result<TaskId, CommandError> {
        match self {
            Self::Direct { tasks, .. } => match tasks.submit(&Namespace::default(), request).await {
                Ok(submitted) => Ok(submitted.task.id),
                Err(error) => Err(CommandError::failed(chain(&error))),
            },
            Self::Rest(client) => Ok(client.submit(&request).await?.task.id),
        }
    }

    /// Waits until the task has ended, and reads it with its answer from the record.
    pub(super) async fn finished(&self, task: TaskId) -> Result<TaskView, CommandError> {
        match self {
            Self::Direct { tasks, ends } => {
                let namespace = Namespace::default();
                let read = if ends.wait(task).await {
                    tasks.get(&namespace, task).await
                } else {
                    tasks.wait(&namespace, task, PATIENCE).await
                };
                read.map_err(|error| CommandError::failed(chain(&error)))
            }
            Self::Rest(client) => Ok(client.wait(task, PATIENCE).await?),
        }
    }
}

/// Tells each waiting flight of the end of its task, from one subscription to all events.
#[derive(Clone)]
pub(super) struct Ends {
    waiting: Arc<Mutex<HashMap<TaskId, End>>>,
}

enum End {
    /// It ended before anybody waited.
    Seen,
    /// Somebody waits; true for an end, false for missed events.
    Awaited(oneshot::Sender<bool>),
}

impl Ends {
    /// Listens from now on.
    pub(super) async fn listen(events: &dyn Events) -> Result<Self, CommandError> {
        let mut received = events.subscribe_ends().await.map_err(|error| CommandError::failed(chain(&error)))?;
        let ends = Self { waiting: Arc::default() };
        let listening = ends.clone();
        // It ends with the bus, which the platform owns.
        tokio::spawn(async move {
            while let Some(received) = received.next().await {
                match received {
                    Received::Event(event) => {
                        if let EventBody::TaskFinished { task, .. } = event.body {
                            listening.ended(task);
                        }
                    }
                    Received::Missed => listening.missed(),
                }
            }
            listening.missed();
        });
        Ok(ends)
    }

    /// Waits for the end of a task; false: events were missed, and the record must be asked.
    async fn wait(&self, task: TaskId) -> bool {
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.lock();
            if matches!(waiting.remove(&task), Some(End::Seen)) {
                return true;
            }
            waiting.insert(task, End::Awaited(sender));
        }
        let told = tokio::time::timeout(PATIENCE, receiver).await;
        matches!(told, Ok(Ok(true)))
    }

    fn ended(&self, task: TaskId) {
        let mut waiting = self.lock();
        match waiting.remove(&task) {
            Some(End::Awaited(sender)) => {
                // Nobody waits any more when this fails.
                let _ = sender.send(true);
            }
            Some(End::Seen) | None => {
                waiting.insert(task, End::Seen);
            }
        }
    }

    fn missed(&self) {
        for (_, end) in self.lock().drain() {
            if let End::Awaited(sender) = end {
                let _ = sender.send(false);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TaskId, End>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks that a task succeeded and that its answer can be read.
pub(super) fn check(view: &TaskView, bytes: usize) -> Result<(), CommandError> {
    if view.status != TaskStatus::Succeeded {
        let why = view.failure.as_ref().map(|failure| format!(": {failure}")).unwrap_or_default();
        return Err(CommandError::failed(format!("task {} is {}{why}", view.id, view.status)));
    }
    let answer = view.output.as_ref().map(|output| output.as_str().map_or_else(|| output.to_string(), str::to_owned));
    match answer {
        Some(answer) if answer.len() >= bytes => Ok(()),
        Some(answer) => Err(CommandError::failed(format!(
            "the answer of task {} has {} bytes instead of {bytes}",
            view.id,
            answer.len()
        ))),
        None => Err(CommandError::failed(format!("task {} has no answer", view.id))),
    }
}
