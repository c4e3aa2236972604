//! Announcements: published together, confirmed together.
//!
//! One task publishes for everybody, so that a caller who goes away in the middle leaves nothing behind, and announcements
//! that come at the same time go out in one write. Confirms are awaited elsewhere: many announcements are under way at once.

use std::sync::Arc;
use std::time::Duration;

use bus::BusError;
use domain::ReadyTask;
use futures::future::{join_all, try_join_all};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, ErrorKind, PublisherConfirm};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::link::{Link, LinkState, Up, blocked};
use crate::message;
use crate::options::RabbitOptions;
use crate::topology::Topology;

/// How many announcements may wait to be published; more wait at the door.
const WAITING: usize = 1_024;
/// How many announcements go out in one write.
const TOGETHER: usize = 256;

/// Announces tasks.
#[derive(Clone)]
pub(crate) struct Publisher {
    jobs: mpsc::Sender<Job>,
    link: Arc<Link>,
    timeout: Duration,
}

/// One announcement.
struct Job {
    tasks: Vec<ReadyTask>,
    /// Whether these tasks came back once already.
    again: bool,
    reply: oneshot::Sender<Result<(), BusError>>,
}

/// A job whose messages are on their way.
struct Sent {
    job: Job,
    confirms: Vec<PublisherConfirm>,
}

impl Publisher {
    pub(crate) fn start(
        options: &Arc<RabbitOptions>,
        link: &Arc<Link>,
        topology: &Arc<Topology>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let (jobs, queue) = mpsc::channel(WAITING);
        let timeout = options.confirm_timeout;
        let publisher = Self { jobs, link: Arc::clone(link), timeout };
        let press = Press {
            ttl_ms: options.hint_ttl.as_millis().to_string(),
            timeout,
            link: Arc::clone(link),
            topology: Arc::clone(topology),
            tasks: tasks.clone(),
            retry: publisher.jobs.downgrade(),
            channel: None,
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(press.run(queue)));
        publisher
    }

    /// Publishes tasks and waits for the confirm of them all.
    pub(crate) async fn announce(&self, tasks: &[ReadyTask]) -> Result<(), BusError> {
        if tasks.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let (reply, answer) = oneshot::channel();
        let job = Job { tasks: tasks.to_vec(), again: false, reply };
        let confirmed = tokio::time::timeout(self.timeout, async {
            self.jobs.send(job).await.map_err(|_| BusError::Closed)?;
            answer.await.unwrap_or(Err(BusError::Closed))
        });
        let result = match confirmed.await {
            Ok(result) => result,
            Err(_) => Err(self.link.usable().err().unwrap_or_else(|| no_confirm(self.timeout))),
        };
        if result.is_ok() {
            metrics::counter!("queue_published_total").increment(tasks.len() as u64);
            metrics::histogram!("queue_confirm_seconds").record(began.elapsed().as_secs_f64());
        }
        result
    }
}

fn no_confirm(timeout: Duration) -> BusError {
    BusError::Unavailable(format!("no confirm within {} ms", timeout.as_millis()))
}

fn unavailable(error: &lapin::Error) -> BusError {
    BusError::Unavailable(error.to_string())
}

/// Publishes what everybody announces.
struct Press {
    ttl_ms: String,
    timeout: Duration,
    link: Arc<Link>,
    topology: Arc<Topology>,
    tasks: TaskTracker,
    /// Where returned messages go for a second try. Weak, so that the end of all publishers is the end of this.
    retry: mpsc::WeakSender<Job>,
    channel: Option<(u64, Channel)>,
}

impl Press {
    async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(TOGETHER);
        while queue.recv_many(&mut jobs, TOGETHER).await > 0 {
            self.publish(std::mem::take(&mut jobs)).await;
        }
    }

    async fn publish(&mut self, jobs: Vec<Job>) {
        let up = match self.usable().await {
            Ok(up) => up,
            Err(error) => return refuse(jobs, &error),
        };
        let (link, timeout) = (Arc::clone(&self.link), self.timeout);
        let again = jobs.iter().any(|job| job.again);
        let sent = tokio::time::timeout(timeout, async {
            let channel = self.channel(&up, again).await?;
            join_all(jobs.iter().map(|job| self.send(&channel, &job.tasks))).await.into_iter().collect()
        });
        let confirms: Vec<Vec<PublisherConfirm>> = match unless_blocked(&link, sent).await {
            Ok(Ok(Ok(confirms))) => confirms,
            Ok(Ok(Err(error))) => {
                // The channel is of no more use, whatever is wrong with it.
                self.channel = None;
                return refuse(jobs, &unavailable(&error));
            }
            Ok(Err(_)) => {
                self.channel = None;
                link.suspect(up.number, no_confirm(timeout).to_string());
                return refuse(jobs, &no_confirm(timeout));
            }
            Err(error) => {
                self.channel = None;
                return refuse(jobs, &error);
            }
        };
        failpoint::hit("C06");
        let sent = jobs.into_iter().zip(confirms).map(|(job, confirms)| Sent { job, confirms }).collect();
        let retry = self.retry.clone();
        self.tasks.spawn(async move { confirm(sent, &link, up.number, timeout, &retry).await });
    }

    /// The connection; waits for the first one, but not for one that was lost.
    async fn usable(&self) -> Result<Up, BusError> {
        let mut state = self.link.watch();
        let waiting = state.wait_for(|state| !matches!(state, LinkState::Connecting));
        if !matches!(tokio::time::timeout(self.timeout, waiting).await, Ok(Ok(_))) {
            return Err(BusError::Unavailable("no connection to the broker yet".to_owned()));
        }
        self.link.usable()
    }

    /// The channel to publish on; a new one and `restore` have everything declared.
    async fn channel(&mut self, up: &Up, restore: bool) -> Result<Channel, lapin::Error> {
        if let Some((number, channel)) = &self.channel
            && *number == up.number
            && channel.status().connected()
        {
            if restore {
                self.topology.restore(&up.connection).await?;
            }
            return Ok(channel.clone());
        }
        if restore {
            self.topology.restore(&up.connection).await?;
        } else {
            self.topology.declare(&up.connection).await?;
        }
        let channel = up.connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        self.channel = Some((up.number, channel.clone()));
        Ok(channel)
    }

    async fn send(&self, channel: &Channel, tasks: &[ReadyTask]) -> Result<Vec<PublisherConfirm>, lapin::Error> {
        let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        try_join_all(tasks.iter().map(|task| async move {
            let (key, body) = (Topology::key(task.mode), message::encode(*task));
            let properties = message::properties(*task, &self.ttl_ms);
            channel.basic_publish(self.topology.exchange(), key, mandatory, &body, properties).await
        }))
        .await
    }
}

/// Waits for the confirms of some jobs, and answers each.
async fn confirm(sent: Vec<Sent>, link: &Link, number: u64, timeout: Duration, retry: &mpsc::WeakSender<Job>) {
    join_all(sent.into_iter().map(|Sent { job, confirms }| async move {
        let Job { tasks, again, reply } = job;
        let confirmed = tokio::time::timeout(timeout, try_join_all(confirms));
        let returned = match unless_blocked(link, confirmed).await {
            Ok(Ok(Ok(confirmations))) => returned(confirmations),
            // The broker closed the channel: there is no exchange any more, for example.
            Ok(Ok(Err(error))) if !again && matches!(error.kind(), ErrorKind::ProtocolError(_)) => Ok(tasks),
            Ok(Ok(Err(error))) => Err(unavailable(&error)),
            Ok(Err(_)) => {
                link.suspect(number, no_confirm(timeout).to_string());
                Err(no_confirm(timeout))
            }
            Err(error) => Err(error),
        };
        failpoint::hit("C07");
        let result = match returned {
            Err(error) => Err(error),
            Ok(tasks) if tasks.is_empty() => Ok(()),
            Ok(_) if again => Err(BusError::Unavailable("the broker routes tasks to no queue".to_owned())),
            Ok(tasks) => publish_again(tasks, retry).await,
        };
        // Whoever asked may have gone.
        let _ = reply.send(result);
    }))
    .await;
}

/// The tasks that came back because there is no queue for them; not always those of the same announcement, as the broker
/// does not say which message it returns.
fn returned(confirmations: Vec<Confirmation>) -> Result<Vec<ReadyTask>, BusError> {
    let mut tasks = Vec::new();
    for confirmation in confirmations {
        if !confirmation.is_ack() {
            return Err(BusError::Unavailable("the broker could not take a message".to_owned()));
        }
        if let Some(message) = confirmation.take_message() {
            metrics::counter!("queue_returned_total").increment(1);
            tasks.extend(message::decode(&message.delivery.data));
        }
    }
    Ok(tasks)
}

async fn publish_again(tasks: Vec<ReadyTask>, retry: &mpsc::WeakSender<Job>) -> Result<(), BusError> {
    tracing::warn!(tasks = tasks.len(), "a queue or the exchange was missing: declaring all and publishing again");
    let (reply, answer) = oneshot::channel();
    let jobs = retry.upgrade().ok_or(BusError::Closed)?;
    jobs.send(Job { tasks, again: true, reply }).await.map_err(|_| BusError::Closed)?;
    answer.await.unwrap_or(Err(BusError::Closed))
}

/// Does something that may wait for the broker, unless the broker says that it takes no messages.
async fn unless_blocked<T>(link: &Link, doing: impl Future<Output = T>) -> Result<T, BusError> {
    let mut state = link.watch();
    let alarm = async {
        let blocking = |state: &LinkState| matches!(state, LinkState::Up(Up { blocked: Some(_), .. }));
        let reason = match state.wait_for(blocking).await.as_deref() {
            Ok(LinkState::Up(Up { blocked: Some(reason), .. })) => Some(blocked(reason)),
            _ => None,
        };
        match reason {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        done = doing => Ok(done),
        error = alarm => Err(error),
    }
}

fn refuse(jobs: Vec<Job>, error: &BusError) {
    for job in jobs {
        let _ = job.reply.send(Err(error.clone()));
    }
}
