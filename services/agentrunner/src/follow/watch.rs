//! Event streams of a task and its sub-tasks, in one queue.

use std::collections::HashSet;

use client::{Client, ClientError, TaskEvent};
use domain::TaskId;
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// What one of the tasks told.
pub(super) struct Told {
    pub(super) task: TaskId,
    /// The agent of a sub-task.
    pub(super) agent: Option<String>,
    pub(super) event: Result<TaskEvent, ClientError>,
}

/// Listens to a task and to the sub-tasks that are added.
pub(super) struct Watchers {
    told: mpsc::Receiver<Told>,
    sender: mpsc::Sender<Told>,
    streams: JoinSet<()>,
    known: HashSet<TaskId>,
}

impl Watchers {
    pub(super) fn new(client: &Client, task: TaskId) -> Self {
        let (sender, told) = mpsc::channel(64);
        let mut watchers = Self { told, sender, streams: JoinSet::new(), known: HashSet::new() };
        watchers.listen(client, task, None);
        watchers
    }

    /// Listens to a sub-task, too.
    pub(super) fn add(&mut self, client: &Client, task: TaskId, agent: &str) {
        self.listen(client, task, Some(agent.to_owned()));
    }

    /// Waits for what is told next.
    pub(super) async fn next(&mut self) -> Told {
        match self.told.recv().await {
            Some(told) => told,
            // Not reached, as a sender is kept here.
            None => std::future::pending().await,
        }
    }

    fn listen(&mut self, client: &Client, task: TaskId, agent: Option<String>) {
        if !self.known.insert(task) {
            return;
        }
        let mut events = client.events(task, None);
        let sender = self.sender.clone();
        self.streams.spawn(async move {
            while let Some(event) = events.next().await {
                if sender.send(Told { task, agent: agent.clone(), event }).await.is_err() {
                    return;
                }
            }
        });
    }
}
