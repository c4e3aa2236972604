//! The work queue on RabbitMQ: a quorum queue a pool mode, for hints that may all be lost.
//!
//! Whatever happens to the broker, nothing here ends the process: connections come back by themselves, queues and
//! exchanges are declared again each time, and until then announcements fail at once with the reason. What a wiped broker
//! forgot, the record announces again.
//!
//! Rooms: `link` (one connection that comes back), `topology` (what is declared), `publisher` (announcements and their
//! confirms), `consumer` (one session a mode) with its `hand` (what was handed over in advance) and `ledger` (what is to be
//! acknowledged), `depth` (how long the queues are), `message` (what is in a message).

mod consumer;
mod depth;
mod hand;
mod ledger;
mod link;
mod message;
mod options;
mod publisher;
mod topology;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bus::{BusError, Delivery, WorkQueue};
use domain::{ExecutionMode, ReadyTask};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use options::RabbitOptions;

use consumer::Consumer;
use depth::Depths;
use link::Link;
use publisher::Publisher;
use topology::Topology;

/// How long each half of an orderly end may take.
const CLOSING: Duration = Duration::from_secs(3);

/// The pools that there are; each has a queue.
const MODES: [ExecutionMode; 3] = [ExecutionMode::Autonomous, ExecutionMode::Collaborative, ExecutionMode::Continuous];

/// The work queue on RabbitMQ. Clones share its two connections; they are closed with the last one.
#[derive(Clone)]
pub struct RabbitQueue {
    inner: Arc<Inner>,
}

struct Inner {
    publishing: Arc<Link>,
    consuming: Arc<Link>,
    topology: Arc<Topology>,
    publisher: Publisher,
    consumers: [Arc<Consumer>; 3],
    depths: Arc<Depths>,
    users: Group,
    links: Group,
}

/// Tasks that end together.
pub(crate) struct Group {
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    _stops: DropGuard,
}

impl Group {
    fn new() -> Self {
        let stop = CancellationToken::new();
        Self { tasks: TaskTracker::new(), _stops: stop.clone().drop_guard(), stop }
    }

    /// Has them end and waits for it; false when they did not in time.
    async fn end(&self) -> bool {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(CLOSING, self.tasks.wait()).await.is_ok()
    }
}

impl RabbitQueue {
    /// Starts with or without a broker: both connections are made in the background, for ever.
    ///
    /// Must be called within a tokio runtime.
    pub fn start(options: RabbitOptions) -> Self {
        let options = Arc::new(options);
        let (users, links) = (Group::new(), Group::new());
        let publishing = Link::start("publishing", &options, &links.tasks, &links.stop);
        let consuming = Link::start("consuming", &options, &links.tasks, &links.stop);
        let topology = Arc::new(Topology::new(&options));
        let publisher = Publisher::start(&options, &publishing, &topology, &users.tasks, &users.stop);
        let depths = Depths::start(&consuming, &topology, &users.tasks, &users.stop);
        let consumers = MODES.map(|mode| {
            let publisher = publisher.clone();
            Consumer::start(mode, &options, &consuming, &topology, publisher, &depths, &users)
        });
        let inner = Inner { publishing, consuming, topology, publisher, consumers, depths, users, links };
        Self { inner: Arc::new(inner) }
    }

    /// Tells whether tasks can be announced and taken; the error says why not: no connection, publishing blocked by an
    /// alarm, or a queue that exists with other arguments than ours. The last works, but not as it was configured; as
    /// queues hold nothing but hints, deleting it costs nothing.
    pub fn ready(&self) -> Result<(), BusError> {
        self.inner.publishing.usable()?;
        self.inner.consuming.usable()?;
        match self.inner.topology.trouble() {
            Some(trouble) => Err(BusError::Unavailable(trouble)),
            None => Ok(()),
        }
    }

    /// Gives back what was handed over and not taken, acknowledges what was used, and closes both connections. Whoever
    /// waits for a task is told `BusError::Closed`.
    pub async fn close(&self) {
        // What is to be said on the connections first.
        if !(self.inner.users.end().await && self.inner.links.end().await) {
            tracing::warn!("work queue did not close in time; the broker will deliver again what was not acknowledged");
        }
    }

    fn consumer(&self, mode: ExecutionMode) -> &Arc<Consumer> {
        &self.inner.consumers[place(mode)]
    }
}

#[async_trait]
impl WorkQueue for RabbitQueue {
    /// Returns when the broker has confirmed all of them, or with an error after the time-out of the options; some may
    /// have arrived all the same.
    async fn announce(&self, tasks: &[ReadyTask]) -> Result<(), BusError> {
        self.inner.publisher.announce(tasks).await
    }

    /// Waits as long as it takes, also for a broker that is away.
    async fn next(&self, mode: ExecutionMode) -> Result<Delivery, BusError> {
        self.consumer(mode).next().await
    }

    /// What the broker said within the last second or so; what consumers have at hand does not count.
    fn depth(&self, mode: ExecutionMode) -> usize {
        self.inner.depths.get(mode)
    }
}

/// A mode's place among [`MODES`].
fn place(mode: ExecutionMode) -> usize {
    match mode {
        ExecutionMode::Autonomous => 0,
        ExecutionMode::Collaborative => 1,
        ExecutionMode::Continuous => 2,
    }
}
