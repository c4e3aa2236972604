//! Tasks: submit, look, wait, list, cancel, signal, retry.

use std::time::Duration;

use domain::{AgentName, HumanDuration, TaskId, TaskStatus, ThreadId};
use reqwest::StatusCode;
use tokio::time::Instant;
use tracing::debug;
use wire::{JournalStep, Page, RetryBody, SignalBody, SubmitTask, TaskView};

use crate::http::page_query;
use crate::{Client, ClientError};

/// How often a submit with a key is tried before its failure is told.
const SUBMIT_ATTEMPTS: u32 = 5;
/// The longest pause between two of these, whatever the server wishes.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest poll that the server answers.
const LONGEST_POLL: Duration = Duration::from_secs(30);
const JOURNAL_PAGE: u32 = 1000;

/// A submitted task.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    /// The task: the new one, or the one that the key already named.
    pub task: TaskView,
    /// False when the key already named a task.
    pub created: bool,
}

/// Which tasks to list; what is left out is not asked about.
#[derive(Debug, Clone, Default)]
pub struct ListTasks {
    /// Of one agent.
    pub agent: Option<AgentName>,
    /// In one of these statuses.
    pub statuses: Vec<TaskStatus>,
    /// Of one conversation.
    pub thread: Option<ThreadId>,
    /// Sub-tasks of one task.
    pub parent: Option<TaskId>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// How many, 1 to 1000.
    pub limit: Option<u32>,
}

impl ListTasks {
    fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = Vec::new();
        query.extend(self.agent.as_ref().map(|agent| ("agent", agent.to_string())));
        if !self.statuses.is_empty() {
            let statuses: Vec<_> = self.statuses.iter().map(|status| status.as_str()).collect();
            query.push(("status", statuses.join(",")));
        }
        query.extend(self.thread.map(|thread| ("thread_id", thread.to_string())));
        query.extend(self.parent.map(|parent| ("parent", parent.to_string())));
        query.extend(self.cursor.clone().map(|cursor| ("cursor", cursor)));
        query.extend(self.limit.map(|limit| ("limit", limit.to_string())));
        query
    }
}

impl Client {
    /// Submits a task. Without a key nobody knows whether a submit without an answer made a task.
    pub async fn submit(&self, task: &SubmitTask) -> Result<Submitted, ClientError> {
        if task.idempotency_key.is_some() {
            return self.submit_repeatedly(task, None).await;
        }
        self.submit_once(task, None).await
    }

    /// Submits a task under a key: repeated by itself while the platform cannot be reached or has too much to do.
    pub async fn submit_with_key(&self, task: &SubmitTask, key: &str) -> Result<Submitted, ClientError> {
        self.submit_repeatedly(task, Some(key)).await
    }

    /// Shows one task.
    pub async fn task(&self, task: TaskId) -> Result<TaskView, ClientError> {
        self.json(self.get(&format!("tasks/{task}"))).await
    }

    /// Waits until a task has ended, at most `patience`, and shows it as it then is.
    pub async fn wait(&self, task: TaskId, patience: Duration) -> Result<TaskView, ClientError> {
        let give_up = Instant::now() + patience;
        loop {
            let left = give_up.saturating_duration_since(Instant::now());
            let poll = HumanDuration(left.min(LONGEST_POLL)).to_string();
            let get = self.get(&format!("tasks/{task}")).query(&[("wait", poll)]).timeout(LONGEST_POLL * 2);
            match self.json::<TaskView>(get).await {
                Ok(view) if view.status.is_terminal() || Instant::now() >= give_up => return Ok(view),
                Ok(_) => {}
                Err(error) if error.is_transient() && Instant::now() < give_up => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Lists tasks, the newest first.
    pub async fn tasks(&self, list: &ListTasks) -> Result<Page<TaskView>, ClientError> {
        self.json(self.get("tasks").query(&list.query())).await
    }

    /// Lists the tasks that failed for good, the newest first.
    pub async fn dead_letters(
        &self,
        agent: Option<&AgentName>,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<TaskView>, ClientError> {
        let mut query = page_query(cursor, limit);
        query.extend(agent.map(|agent| ("agent", agent.to_string())));
        self.json(self.get("dead-letters").query(&query)).await
    }

    /// Lists a task's finished steps, in order.
    pub async fn journal(
        &self,
        task: TaskId,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<JournalStep>, ClientError> {
        self.json(self.get(&format!("tasks/{task}/journal")).query(&page_query(cursor, limit))).await
    }

    /// Reads a task's whole journal.
    pub async fn whole_journal(&self, task: TaskId) -> Result<Vec<JournalStep>, ClientError> {
        let mut steps = Vec::new();
        let mut cursor = None;
        loop {
            let page = self.journal(task, cursor.as_deref(), JOURNAL_PAGE).await?;
            steps.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(steps);
            }
        }
    }

    /// Asks a task to stop.
    pub async fn cancel(&self, task: TaskId) -> Result<TaskView, ClientError> {
        self.json(self.post(&format!("tasks/{task}/cancel"))).await
    }

    /// Delivers a named value to a task; the same key again changes nothing.
    pub async fn signal(&self, task: TaskId, signal: &SignalBody, key: Option<&str>) -> Result<TaskView, ClientError> {
        let mut post = self.post(&format!("tasks/{task}/signal")).json(signal);
        if let Some(key) = key {
            post = post.header("idempotency-key", key);
        }
        self.json(post).await
    }

    /// Begins a failed or cancelled task again: after its last step, or anew from its input.
    pub async fn retry(&self, task: TaskId, keep_journal: bool) -> Result<TaskView, ClientError> {
        self.json(self.post(&format!("tasks/{task}/retry")).json(&RetryBody { keep_journal })).await
    }

    async fn submit_once(&self, task: &SubmitTask, key: Option<&str>) -> Result<Submitted, ClientError> {
        let mut post = self.post("tasks").json(task);
        if let Some(key) = key {
            post = post.header("idempotency-key", key);
        }
        let (status, task) = self.json_with_status(post).await?;
        Ok(Submitted { task, created: status == StatusCode::ACCEPTED })
    }

    async fn submit_repeatedly(&self, task: &SubmitTask, key: Option<&str>) -> Result<Submitted, ClientError> {
        let mut pause = Duration::from_millis(100);
        for _ in 1..SUBMIT_ATTEMPTS {
            match self.submit_once(task, key).await {
                Err(error) if error.is_transient() => {
                    let wished = error.problem().and_then(|problem| problem.retry_after);
                    debug!(%error, "a submit is repeated");
                    tokio::time::sleep(wished.unwrap_or(pause).min(LONGEST_PAUSE)).await;
                    pause *= 2;
                }
                done => return done,
            }
        }
        self.submit_once(task, key).await
    }
}
