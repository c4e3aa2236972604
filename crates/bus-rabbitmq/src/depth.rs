//! How long the queues are, asked about once a second: whoever wants to know must not wait for the broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::ExecutionMode;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, ErrorKind};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::link::{Link, Up};
use crate::topology::Topology;
use crate::{MODES, place};

/// How often the broker is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// What the broker answers when a queue does not exist.
const NOT_FOUND: u16 = 404;

/// What was last seen of each queue.
#[derive(Default)]
pub(crate) struct Depths {
    messages: [AtomicUsize; 3],
}

impl Depths {
    pub(crate) fn start(
        link: &Arc<Link>,
        topology: &Arc<Topology>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Arc<Self> {
        let depths = Arc::new(Self::default());
        let (looking, link, topology) = (Arc::clone(&depths), Arc::clone(link), Arc::clone(topology));
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move { looking.look(&link, &topology).await }));
        depths
    }

    pub(crate) fn get(&self, mode: ExecutionMode) -> usize {
        self.messages[place(mode)].load(Ordering::Relaxed)
    }

    async fn look(&self, link: &Link, topology: &Topology) {
        while let Some(up) = link.up().await {
            if let Err(error) = self.watch(&up, topology).await {
                tracing::debug!(%error, "queue depths cannot be seen");
                if matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == NOT_FOUND) {
                    // Somebody deleted a queue: it would stay away until somebody announces to it.
                    let _ = topology.restore(&up.connection).await;
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Looks until it fails.
    async fn watch(&self, up: &Up, topology: &Topology) -> Result<(), lapin::Error> {
        // From here on a queue that is missing was deleted.
        topology.declare(&up.connection).await?;
        let channel = up.connection.create_channel().await?;
        loop {
            for mode in MODES {
                self.see(&channel, topology, mode).await?;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn see(&self, channel: &Channel, topology: &Topology, mode: ExecutionMode) -> Result<(), lapin::Error> {
        let passive = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare(topology.queue(mode), passive, FieldTable::default()).await?;
        self.messages[place(mode)].store(queue.message_count() as usize, Ordering::Relaxed);
        metrics::gauge!("queue_depth", "mode" => mode.as_str()).set(f64::from(queue.message_count()));
        Ok(())
    }
}
