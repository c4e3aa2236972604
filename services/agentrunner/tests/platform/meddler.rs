//! Somebody between the announcements and the pools: each comes late, out of order, and several times.
//!
//! Pools work in a virtual host of their own, to which only the meddler carries what others announce. What a pool announces
//! is there at once, and comes again later.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};

use crate::dice::Dice;

/// Where announcements are published, with the key of the pools' mode, and the queue that the pools take them from.
const EXCHANGE: &str = "tasks";
const KEY: &str = "autonomous";
const QUEUE: &str = "tasks.autonomous";
/// The meddler's own queue, for copies of what pools announce.
const OWN: &str = "meddler";
/// No delivery comes later than this.
const LATEST: Duration = Duration::from_secs(2);

/// Has every announcement delivered 2 to 10 times.
pub(crate) struct Meddler {
    pools: Channel,
    counts: Arc<Counts>,
    _connections: [Connection; 2],
}

#[derive(Default)]
struct Counts {
    announcements: AtomicUsize,
    held: AtomicUsize,
    delivered: AtomicUsize,
}

impl Meddler {
    /// Carries what is announced in the virtual host at `from` to the pools in that at `to`. Both must have their queues.
    pub(crate) async fn start(from: &str, to: &str, mut dice: Dice) -> Self {
        let ((from, others), (to, pools)) = (connect(from).await, connect(to).await);
        pools.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        let alone = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        pools.queue_declare(OWN.into(), alone, FieldTable::default()).await.expect("a queue");
        let (bind, none) = (QueueBindOptions::default(), FieldTable::default());
        pools.queue_bind(OWN.into(), EXCHANGE.into(), KEY.into(), bind, none).await.expect("a binding");
        let (mut announced, mut copied) = (consume(&others, QUEUE).await, consume(&pools, OWN).await);
        let counts = Arc::new(Counts::default());
        let meddler = Self { pools: pools.clone(), counts: Arc::clone(&counts), _connections: [from, to] };
        tokio::spawn(async move {
            loop {
                let (delivery, there) = tokio::select! {
                    Some(Ok(delivery)) = announced.next() => (delivery, 0),
                    Some(Ok(delivery)) = copied.next() => (delivery, 1),
                    else => return,
                };
                counts.deliver(&pools, delivery, there, &mut dice);
            }
        });
        meddler
    }

    /// How many announcements there were.
    pub(crate) fn announcements(&self) -> usize {
        self.counts.announcements.load(Ordering::SeqCst)
    }

    /// How many deliveries were made of them; none while more are to come.
    pub(crate) fn delivered(&self) -> Option<usize> {
        (self.counts.held.load(Ordering::SeqCst) == 0).then(|| self.counts.delivered.load(Ordering::SeqCst))
    }

    /// How many lie in the pools' queue, those not counted that a pool holds.
    pub(crate) async fn waiting(&self) -> u32 {
        depth(&self.pools).await
    }
}

impl Counts {
    /// Has an announcement delivered several times, of which some are `there` already.
    fn deliver(self: &Arc<Self>, pools: &Channel, announcement: Delivery, there: usize, dice: &mut Dice) {
        let copies = 2 + dice.roll(9) as usize - there;
        self.held.fetch_add(copies, Ordering::SeqCst);
        self.delivered.fetch_add(there, Ordering::SeqCst);
        self.announcements.fetch_add(1, Ordering::SeqCst);
        let announcement = Arc::new(announcement);
        for _ in 0..copies {
            let pause = dice.up_to(LATEST);
            let (pools, announcement, counts) = (pools.clone(), Arc::clone(&announcement), Arc::clone(self));
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                publish(&pools, &announcement.data, announcement.properties.clone()).await;
                counts.delivered.fetch_add(1, Ordering::SeqCst);
                counts.held.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }
}

async fn consume(channel: &Channel, queue: &str) -> Consumer {
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    channel.basic_consume(queue.into(), OWN.into(), options, FieldTable::default()).await.expect("a consumer")
}

/// Puts something into the pools' queue itself.
pub(crate) async fn publish(channel: &Channel, body: &[u8], properties: BasicProperties) {
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish("".into(), QUEUE.into(), options, body, properties).await.expect("it is sent");
    sent.await.expect("it arrives");
}

/// How many lie in the pools' queue, those not counted that a pool holds.
pub(crate) async fn depth(channel: &Channel) -> u32 {
    let passive = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(QUEUE.into(), passive, FieldTable::default()).await.expect("the queue is there");
    queue.message_count()
}

/// A connection of somebody who is no service.
pub(crate) async fn connect(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}
