//! Following a task to its end: what happens is told, its questions are put to the person at the terminal.

pub(crate) mod questions;
mod watch;

use std::collections::HashSet;
use std::io::{Stderr, Stdout};
use std::time::Duration;

use client::{Client, ClientError, TaskEvent};
use domain::{Resolution, StepBody, TaskId, TaskStatus, WaitFor};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;
use wire::{DecideApproval, DecideBudget, SignalBody, TaskView};

use crate::exit::{CommandError, chain};
use crate::output::live::{Live, Telling};
use questions::{Question, Questions, Reply, typed_lines};
use watch::{Told, Watchers};

/// What Ctrl-C means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// The first one asks the task to stop, the second one leaves it.
    Cancels,
    /// It leaves the task.
    Leaves,
}

/// How a task is followed.
#[derive(Debug, Clone, Copy)]
pub struct Follow {
    /// How it is told.
    pub telling: Telling,
    /// A person can be asked.
    pub can_ask: bool,
    /// What Ctrl-C means.
    pub interrupt: Interrupt,
    /// When to give up.
    pub patience: Option<Duration>,
}

/// How following ended.
#[derive(Debug)]
pub enum Followed {
    /// The task ended.
    Ended(Box<TaskView>),
    /// The person left.
    Left,
    /// Time ran out.
    TimedOut,
}

/// A task that is being followed.
pub struct Follower<'a> {
    client: &'a Client,
    task: TaskId,
    follow: Follow,
    /// Tells what happens; the caller ends it with the answer.
    pub live: Live<Stdout, Stderr>,
    watchers: Watchers,
    questions: Questions,
    typed: Option<mpsc::Receiver<String>>,
    /// Tasks that wait now: only what they ask is still open, however late their journal is read.
    waiting: HashSet<TaskId>,
    cancelling: bool,
}

impl<'a> Follower<'a> {
    /// Begins to follow a task from its first step.
    pub fn new(client: &'a Client, task: TaskId, follow: Follow) -> Self {
        let live = Live::new(follow.telling, std::io::stdout(), std::io::stderr());
        Self {
            client,
            task,
            follow,
            live,
            watchers: Watchers::new(client, task),
            questions: Questions::default(),
            typed: follow.can_ask.then(typed_lines),
            waiting: HashSet::new(),
            cancelling: false,
        }
    }

    /// Follows it to its end.
    pub async fn run(&mut self) -> Result<Followed, CommandError> {
        let mut interrupts = signal(SignalKind::interrupt())?;
        let mut terms = signal(SignalKind::terminate())?;
        let give_up = self.follow.patience.map(|patience| Instant::now() + patience);
        loop {
            tokio::select! {
                biased;
                _ = interrupts.recv() => if let Some(left) = self.interrupted().await? { return Ok(left) },
                _ = terms.recv() => return Ok(Followed::Left),
                told = self.watchers.next() => if let Some(view) = self.told(told)? {
                    return Ok(Followed::Ended(view));
                },
                line = next_line(&mut self.typed) => self.typed(line).await?,
                () = until(give_up) => return Ok(Followed::TimedOut),
            }
        }
    }

    /// Asks the task to stop and waits until it has, for a moment.
    pub async fn cancel(&mut self) -> Result<Option<TaskView>, CommandError> {
        const MOMENT: Duration = Duration::from_secs(5);
        match self.client.cancel(self.task).await {
            Ok(_) => {}
            Err(error) if error.status() == Some(409) => {}
            Err(error) => return Err(error.into()),
        }
        let view = self.client.wait(self.task, MOMENT).await?;
        Ok(view.status.is_terminal().then_some(view))
    }

    async fn interrupted(&mut self) -> Result<Option<Followed>, CommandError> {
        if self.cancelling || self.follow.interrupt == Interrupt::Leaves {
            return Ok(Some(Followed::Left));
        }
        self.cancelling = true;
        self.live.note("\ncancelling; press Ctrl-C again to leave the task as it is")?;
        match self.client.cancel(self.task).await {
            Ok(_) => Ok(None),
            // It has ended, as the events are about to tell.
            Err(error) if error.status() == Some(409) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn told(&mut self, told: Told) -> Result<Option<Box<TaskView>>, CommandError> {
        let Told { task, agent, event } = told;
        let event = match event {
            Ok(event) => event,
            Err(error) if task == self.task => return Err(error.into()),
            // A sub-task is only looked at; its parent tells how it ended.
            Err(_) => return Ok(None),
        };
        match &agent {
            None => self.live.event(&event)?,
            Some(agent) => self.live.child_event(agent, &event)?,
        }
        match event {
            TaskEvent::Step(step) => self.look_for_questions(task, &step.0.body)?,
            TaskEvent::Status(status) if status.status == TaskStatus::Waiting => {
                self.waiting.insert(task);
                self.put_question()?;
            }
            TaskEvent::Status(_) => {
                self.waiting.remove(&task);
            }
            TaskEvent::Finished(view) if task == self.task => return Ok(Some(view)),
            TaskEvent::Finished(_) => self.questions.ended(task),
            TaskEvent::Delta(_) | TaskEvent::Restart(_) | TaskEvent::Progress(_) | TaskEvent::Budget(_) => {}
        }
        Ok(None)
    }

    fn look_for_questions(&mut self, task: TaskId, body: &StepBody) -> Result<(), CommandError> {
        match body {
            StepBody::Parked { waits } => {
                for wait in waits {
                    if let WaitFor::Child { task: child, agent } = &wait.on {
                        self.watchers.add(self.client, *child, agent.as_str());
                    }
                    if let Some(question) = Question::of(task, wait) {
                        self.questions.add(question);
                    }
                }
            }
            StepBody::Resolved { call_id, by } => {
                let put = self.questions.resolved(task, call_id);
                if put && matches!(by, Resolution::Signal { .. } | Resolution::Expired { .. }) {
                    self.live.note("\n(no longer needed)")?;
                    self.put_question()?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn put_question(&mut self) -> Result<(), CommandError> {
        let Some(question) = self.questions.put(&self.waiting).cloned() else { return Ok(()) };
        let Some(typed) = &mut self.typed else {
            self.live.note(&question.how_to_answer())?;
            // Another question may come, and is told in the same way.
            self.questions.answered();
            return self.put_question();
        };
        // What was typed before the question is no answer to it.
        while typed.try_recv().is_ok() {}
        self.live.prompt(&question.prompt())?;
        Ok(())
    }

    async fn typed(&mut self, line: Option<String>) -> Result<(), CommandError> {
        let Some(line) = line else {
            // The end of the input: the person can still answer from elsewhere.
            self.typed = None;
            self.questions.again();
            return self.put_question();
        };
        let Some(question) = self.questions.current() else { return Ok(()) };
        let reply = match question.answer(&line) {
            Ok(reply) => reply,
            Err(expected) => {
                self.live.note(&expected)?;
                self.questions.again();
                return self.put_question();
            }
        };
        let Some(question) = self.questions.answered() else { return Ok(()) };
        match self.send(&question, reply).await {
            Ok(()) => {}
            Err(ClientError::Problem(problem)) => self.live.note(&problem.to_string())?,
            Err(error) => return Err(error.into()),
        }
        self.put_question()
    }

    async fn send(&self, question: &Question, reply: Reply) -> Result<(), ClientError> {
        let (task, call_id) = (question.task, question.call_id.as_str());
        let by = whoami().unwrap_or_else(|| "somebody at a terminal".to_owned());
        match reply {
            Reply::Signal { name, value } => {
                let signal = SignalBody { name, value, from: whoami() };
                self.client.signal(task, &signal, Some(&format!("{task}-{call_id}"))).await.map(drop)
            }
            Reply::Decide { decision, digest, arguments, reason } => {
                let body = DecideApproval { decision, digest, arguments, reason, by };
                self.client.decide(task, call_id, &body).await.map(drop)
            }
            Reply::Grant(grant) => {
                let body = DecideBudget { call_id: call_id.to_owned(), grant, deny: grant.is_none(), by };
                self.client.decide_budget(task, &body).await.map(drop)
            }
        }
    }
}

/// The next typed line; never, when nobody types.
async fn next_line(typed: &mut Option<mpsc::Receiver<String>>) -> Option<String> {
    match typed {
        Some(typed) => typed.recv().await,
        None => std::future::pending().await,
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Who answers, as far as the system knows.
pub(crate) fn whoami() -> Option<String> {
    std::env::var("USER").ok().filter(|user| !user.is_empty() && user.len() <= 128)
}

/// Listens to Ctrl-C for commands that follow nothing.
pub fn interrupts() -> std::io::Result<Signal> {
    signal(SignalKind::interrupt())
}

impl From<ClientError> for CommandError {
    fn from(error: ClientError) -> Self {
        match &error {
            ClientError::Problem(problem) => Self::failed(problem.to_string()),
            ClientError::Address { .. } => Self::usage(error.to_string()),
            ClientError::Transport { .. } | ClientError::StreamLost { .. } => Self::unreachable(chain(&error))
                .hint("is the platform still running? `agentrunner doctor` looks, `agentrunner dev` starts one"),
            ClientError::NotUnderstood { .. } | ClientError::NoConfigService => Self::unreachable(chain(&error)),
        }
    }
}
