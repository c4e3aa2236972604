//! A task's events as a stream that takes itself up again where it broke off.

use std::collections::VecDeque;
use std::time::Duration;

use domain::{TaskId, TaskStatus};
use futures::stream::{self, BoxStream, Stream};
use futures::{StreamExt, TryStreamExt};
use serde::de::DeserializeOwned;
use tracing::debug;
use wire::{BudgetEvent, DeltaEvent, JournalStep, ProgressEvent, RestartEvent, StatusEvent, TaskView, event_name};

use crate::http::{successful, transport};
use crate::sse::{Event, Parser, TooLarge};
use crate::{Client, ClientError};

/// How often in a row taking up is tried.
const ATTEMPTS: u32 = 30;
/// The pause before coming back, unless the server wishes another one; it grows with every failure.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What happens in a task.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskEvent {
    /// It changed its status.
    Status(StatusEvent),
    /// A step was finished; it replaces the pieces of the same number that were spoken before.
    Step(Box<JournalStep>),
    /// A piece of an answer that is being spoken.
    Delta(DeltaEvent),
    /// What was spoken of a step is void.
    Restart(RestartEvent),
    /// A tool that is still at work says how far it is; a hint.
    Progress(ProgressEvent),
    /// A budget has reached four fifths of a limit; a hint.
    Budget(BudgetEvent),
    /// It ended; nothing follows.
    Finished(Box<TaskView>),
}

impl Client {
    /// Listens to a task from its first step, or after the event with the id `resume`, until it has ended.
    ///
    /// A connection that breaks off is made again, and nothing is told twice. An item that is an error is the last one.
    pub fn events(
        &self,
        task: TaskId,
        resume: Option<String>,
    ) -> impl Stream<Item = Result<TaskEvent, ClientError>> + Send + Unpin + use<> {
        let reader = Reader {
            client: self.clone(),
            task,
            last_id: resume,
            connection: None,
            parser: Parser::default(),
            events: VecDeque::new(),
            status: None,
            failures: 0,
            ended: false,
        };
        stream::unfold(reader, async |mut reader| Some((reader.next().await?, reader))).boxed()
    }
}

type Connection = BoxStream<'static, Result<Vec<u8>, ClientError>>;

struct Reader {
    client: Client,
    task: TaskId,
    last_id: Option<String>,
    connection: Option<Connection>,
    parser: Parser,
    events: VecDeque<Event>,
    /// Every connection begins with the status; it is told again only if it changed.
    status: Option<(TaskStatus, bool)>,
    failures: u32,
    ended: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<TaskEvent, ClientError>> {
        while !self.ended {
            match self.step().await {
                Ok(Some(event)) => {
                    self.ended = matches!(event, TaskEvent::Finished(_));
                    return Some(Ok(event));
                }
                Ok(None) => {}
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }

    /// Takes an event that has come, or reads on, or connects.
    async fn step(&mut self) -> Result<Option<TaskEvent>, ClientError> {
        if let Some(event) = self.events.pop_front() {
            return self.understand(&event);
        }
        let received = match &mut self.connection {
            Some(connection) => connection.next().await,
            None => match connect(&self.client, self.task, self.last_id.as_deref()).await {
                Ok(connection) => {
                    self.connection = Some(connection);
                    return Ok(None);
                }
                Err(error) => Some(Err(error)),
            },
        };
        match received {
            Some(Ok(bytes)) => {
                match self.parser.push(&bytes) {
                    Ok(events) => self.events.extend(events),
                    Err(TooLarge) => return Err(self.not_understood("an event is too large")),
                }
                if !self.events.is_empty() {
                    self.failures = 0;
                }
                Ok(None)
            }
            Some(Err(error)) if !error.is_transient() => Err(error),
            broken => self.broke_off(broken.and_then(Result::err)).await,
        }
    }

    async fn broke_off(&mut self, error: Option<ClientError>) -> Result<Option<TaskEvent>, ClientError> {
        self.connection = None;
        self.failures += 1;
        if self.failures > ATTEMPTS {
            let source = error.map(Box::new);
            return Err(ClientError::StreamLost { task: self.task, attempts: ATTEMPTS, source });
        }
        debug!(task.id = %self.task, failures = self.failures, "the event stream broke off, it is taken up again");
        let wished = error.as_ref().and_then(|error| error.problem()?.retry_after).or(self.parser.retry());
        let pause = wished.unwrap_or(PAUSE).max(PAUSE * self.failures).min(LONGEST_PAUSE);
        // Half an event is worth nothing.
        self.parser = Parser::default();
        tokio::time::sleep(pause).await;
        Ok(None)
    }

    fn understand(&mut self, event: &Event) -> Result<Option<TaskEvent>, ClientError> {
        if event.id.is_some() {
            self.last_id.clone_from(&event.id);
        }
        Ok(match event.name.as_str() {
            event_name::STATUS => {
                let status: StatusEvent = self.read(&event.data)?;
                let now = Some((status.status, status.cancelling));
                let changed = self.status != now;
                self.status = now;
                changed.then_some(TaskEvent::Status(status))
            }
            event_name::STEP => Some(TaskEvent::Step(self.read(&event.data)?)),
            event_name::DELTA => Some(TaskEvent::Delta(self.read(&event.data)?)),
            event_name::RESTART => Some(TaskEvent::Restart(self.read(&event.data)?)),
            event_name::PROGRESS => Some(TaskEvent::Progress(self.read(&event.data)?)),
            event_name::BUDGET => Some(TaskEvent::Budget(self.read(&event.data)?)),
            event_name::FINISHED => Some(TaskEvent::Finished(self.read(&event.data)?)),
            // A newer server may tell more.
            _ => None,
        })
    }

    fn read<T: DeserializeOwned>(&self, data: &str) -> Result<T, ClientError> {
        serde_json::from_str(data).map_err(|error| self.not_understood(&error.to_string()))
    }

    fn not_understood(&self, reason: &str) -> ClientError {
        ClientError::NotUnderstood { url: format!("the events of task {}", self.task), reason: reason.to_owned() }
    }
}

async fn connect(client: &Client, task: TaskId, last_id: Option<&str>) -> Result<Connection, ClientError> {
    let mut request = client.http.get(client.at(&format!("tasks/{task}/events"))).header("accept", "text/event-stream");
    if let Some(id) = last_id {
        request = request.header("last-event-id", id);
    }
    let response = successful(client.send(request).await?).await?;
    Ok(response.bytes_stream().map_ok(|bytes| bytes.to_vec()).map_err(transport).boxed())
}
