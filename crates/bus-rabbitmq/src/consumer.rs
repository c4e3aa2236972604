//! Takes tasks from one mode's queue, as long as somebody waits for them.
//!
//! The broker hands over a few tasks in advance, which hides the way there and back. While nobody waits, because a pool is
//! full, they are given back and the consumer is cancelled: another process may be idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bus::{BusError, Delivery, Settled};
use domain::ExecutionMode;
use futures::StreamExt as _;
use lapin::Channel;
use lapin::message::Delivery as Message;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, BasicRejectOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Group;
use crate::depth::Depths;
use crate::hand::{Hand, Held};
use crate::ledger::Ledger;
use crate::link::{Link, Up, full_jitter};
use crate::message;
use crate::options::RabbitOptions;
use crate::publisher::Publisher;
use crate::topology::Topology;

/// How often to look whether tasks lie idle.
const LOOK: Duration = Duration::from_millis(50);
/// The longest pause after a session that failed.
const PAUSE: Duration = Duration::from_millis(500);
/// How long tasks may lie in the queue while somebody waits for them here. After that the broker has forgotten the consumer,
/// which it does not always say: when a queue is deleted and declared again at once, for example.
const STARVED: Duration = Duration::from_secs(2);
/// After so long without a message a consumer is made anew. A broker can hold on to messages that it believes to have handed
/// over (RabbitMQ 3.10 does after a queue was deleted and declared again at once); a new consumer gets them.
const SILENCE: Duration = Duration::from_secs(15);
/// The name of a channel's only consumer.
const TAG: &str = "pool";

/// Takes tasks from one mode's queue.
pub(crate) struct Consumer {
    mode: ExecutionMode,
    options: Arc<RabbitOptions>,
    link: Arc<Link>,
    topology: Arc<Topology>,
    publisher: Publisher,
    depths: Arc<Depths>,
    tasks: TaskTracker,
    stop: CancellationToken,
    hand: Hand,
    settle: UnboundedSender<(Held, Settled)>,
    sessions: AtomicU64,
}

/// Why a session ended.
enum Ended {
    Stopped,
    Silent,
    Lost(String),
}

impl From<lapin::Error> for Ended {
    fn from(error: lapin::Error) -> Self {
        Self::Lost(error.to_string())
    }
}

impl Consumer {
    pub(crate) fn start(
        mode: ExecutionMode,
        options: &Arc<RabbitOptions>,
        link: &Arc<Link>,
        topology: &Arc<Topology>,
        publisher: Publisher,
        depths: &Arc<Depths>,
        users: &Group,
    ) -> Arc<Self> {
        let (settle, settled) = unbounded_channel();
        let consumer = Arc::new(Self {
            mode,
            options: Arc::clone(options),
            link: Arc::clone(link),
            topology: Arc::clone(topology),
            publisher,
            depths: Arc::clone(depths),
            tasks: users.tasks.clone(),
            stop: users.stop.clone(),
            hand: Hand::default(),
            settle,
            sessions: AtomicU64::new(0),
        });
        users.tasks.spawn(Arc::clone(&consumer).run(settled));
        consumer
    }

    /// Waits for a task.
    pub(crate) async fn next(&self) -> Result<Delivery, BusError> {
        let held = self.hand.next().await.ok_or(BusError::Closed)?;
        let settle = self.settle.clone();
        Ok(Delivery::new(held.task, move |settled| {
            // Without a receiver there is no channel any more on which the broker could be told.
            let _ = settle.send((held, settled));
        }))
    }

    async fn run(self: Arc<Self>, mut settled: UnboundedReceiver<(Held, Settled)>) {
        while !self.stop.is_cancelled() {
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = self.hand.wanted() => {}
            }
            let up = tokio::select! {
                () = self.stop.cancelled() => break,
                up = self.link.up() => up,
            };
            let Some(up) = up else { break };
            let number = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
            let ended = self.session(&up, number, &mut settled).await;
            // The broker delivers these again: nobody told it that they were used.
            self.hand.empty();
            match ended {
                Ended::Stopped => break,
                Ended::Silent => {}
                Ended::Lost(reason) => {
                    tracing::warn!(mode = %self.mode, %reason, "consumer lost, starting another");
                    tokio::time::sleep(full_jitter(PAUSE)).await;
                }
            }
        }
        self.hand.close();
    }

    async fn session(&self, up: &Up, number: u64, settled: &mut UnboundedReceiver<(Held, Settled)>) -> Ended {
        match self.topology.declare(&up.connection).await {
            Ok(()) => {}
            Err(error) => return error.into(),
        }
        let channel = match up.connection.create_channel().await {
            Ok(channel) => channel,
            Err(error) => return error.into(),
        };
        let mut session = Session {
            consumer: self,
            number,
            channel,
            source: None,
            ledger: Ledger::default(),
            starved: None,
            heard: Instant::now(),
            restorations: 0,
        };
        match session.run(settled).await {
            Ok(ended) => ended,
            Err(error) => error.into(),
        }
    }
}

/// One channel's life.
struct Session<'a> {
    consumer: &'a Consumer,
    number: u64,
    channel: Channel,
    /// Where messages come from, while somebody waits for them.
    source: Option<lapin::Consumer>,
    ledger: Ledger,
    /// Since when tasks have been lying in the queue although somebody waits.
    starved: Option<Instant>,
    /// When the last message came, or the consumer began.
    heard: Instant,
    restorations: u64,
}

impl Session<'_> {
    async fn run(&mut self, settled: &mut UnboundedReceiver<(Held, Settled)>) -> Result<Ended, lapin::Error> {
        self.channel.basic_qos(self.consumer.options.prefetch.max(1), BasicQosOptions::default()).await?;
        let (hand, stop) = (&self.consumer.hand, &self.consumer.stop);
        self.restorations = self.consumer.topology.restorations();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if self.source.is_none() && hand.has_waiters() {
                self.consume().await?;
            }
            let consuming = self.source.is_some();
            tokio::select! {
                () = stop.cancelled() => {
                    self.give_back().await?;
                    self.settle(settled).await?;
                    self.channel.close(200, "goodbye".into()).await?;
                    return Ok(Ended::Stopped);
                }
                Some((held, how)) = settled.recv() => {
                    self.note(held, how).await?;
                    self.settle(settled).await?;
                }
                message = next(&mut self.source), if consuming => match message {
                    Some(message) => self.receive(message?).await?,
                    None => return Ok(Ended::Lost("the broker cancelled the consumer".to_owned())),
                },
                () = hand.wanted(), if !consuming => {}
                _ = look.tick() => {
                    if !self.channel.status().connected() {
                        return Ok(Ended::Lost("the channel was closed".to_owned()));
                    }
                    if self.restorations != self.consumer.topology.restorations() {
                        self.settle(settled).await?;
                        return Ok(Ended::Lost("a queue or exchange was missing".to_owned()));
                    }
                    if self.ledger.is_empty() && self.heard.elapsed() >= SILENCE {
                        self.channel.close(200, "renewed".into()).await?;
                        return Ok(Ended::Silent);
                    }
                    if self.is_starved() {
                        self.settle(settled).await?;
                        return Ok(Ended::Lost("tasks lie in the queue and are not handed over".to_owned()));
                    }
                    if consuming && hand.idle() >= self.consumer.options.give_back_after {
                        self.give_back().await?;
                    }
                }
            }
        }
    }

    fn is_starved(&mut self) -> bool {
        let consumer = self.consumer;
        if self.source.is_none() || !consumer.hand.has_waiters() || consumer.depths.get(consumer.mode) == 0 {
            self.starved = None;
            return false;
        }
        self.starved.get_or_insert_with(Instant::now).elapsed() >= STARVED
    }

    async fn consume(&mut self) -> Result<(), lapin::Error> {
        let queue = self.consumer.topology.queue(self.consumer.mode);
        let options = BasicConsumeOptions::default();
        self.source = Some(self.channel.basic_consume(queue, TAG.into(), options, FieldTable::default()).await?);
        Ok(())
    }

    async fn receive(&mut self, message: Message) -> Result<(), lapin::Error> {
        let tag = message.delivery_tag;
        (self.starved, self.heard) = (None, Instant::now());
        if message.redelivered {
            metrics::counter!("queue_redelivered_total").increment(1);
        }
        let Some(task) = message::decode(&message.data).filter(|task| task.mode == self.consumer.mode) else {
            metrics::counter!("queue_undecodable_total").increment(1);
            tracing::warn!(mode = %self.consumer.mode, bytes = message.data.len(), "a message that is not ours became a dead letter");
            return self.channel.basic_reject(tag, BasicRejectOptions { requeue: false }).await;
        };
        self.ledger.received(tag);
        self.consumer.hand.put(Held { task, session: self.number, tag, deliveries: deliveries(&message) });
        Ok(())
    }

    /// Notes what became of deliveries, and tells the broker of all that is known by now.
    async fn settle(&mut self, settled: &mut UnboundedReceiver<(Held, Settled)>) -> Result<(), lapin::Error> {
        while let Ok((held, how)) = settled.try_recv() {
            self.note(held, how).await?;
        }
        for ack in self.ledger.acks() {
            self.channel.basic_ack(ack.tag, BasicAckOptions { multiple: ack.multiple }).await?;
        }
        Ok(())
    }

    async fn note(&mut self, held: Held, how: Settled) -> Result<(), lapin::Error> {
        match how {
            // Of another session: the broker has it back already.
            _ if held.session != self.number => Ok(()),
            Settled::Done => {
                self.ledger.done(held.tag);
                Ok(())
            }
            Settled::Returned => self.hand_back(held).await,
        }
    }

    /// Cancels the consumer and gives back what it has at hand.
    async fn give_back(&mut self) -> Result<(), lapin::Error> {
        if let Some(mut source) = self.source.take() {
            self.channel.basic_cancel(TAG.into(), BasicCancelOptions::default()).await?;
            // What arrived before the cancellation did.
            while let Some(message) = source.next().await {
                self.receive(message?).await?;
            }
        }
        let held = self.consumer.hand.empty();
        if !held.is_empty() {
            metrics::counter!("queue_given_back_total").increment(held.len() as u64);
        }
        for held in held {
            self.hand_back(held).await?;
        }
        Ok(())
    }

    /// Gives a delivery back to the place that it had in the queue. The broker counts that as a failed delivery, which it
    /// is not: one that comes near the limit is announced anew instead, and loses its place but not its life.
    async fn hand_back(&mut self, held: Held) -> Result<(), lapin::Error> {
        if held.deliveries + 2 >= self.consumer.options.delivery_limit && !self.consumer.stop.is_cancelled() {
            let (publisher, settle) = (self.consumer.publisher.clone(), self.consumer.settle.clone());
            self.consumer.tasks.spawn(async move {
                if let Err(error) = publisher.announce(&[held.task]).await {
                    tracing::debug!(%error, task.id = %held.task.task, "hint lost; the record announces it again");
                }
                let _ = settle.send((held, Settled::Done));
            });
            return Ok(());
        }
        if self.ledger.remove(held.tag) {
            let requeue = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
            self.channel.basic_nack(held.tag, requeue).await?;
        }
        Ok(())
    }
}

async fn next(source: &mut Option<lapin::Consumer>) -> Option<Result<Message, lapin::Error>> {
    match source {
        Some(source) => source.next().await,
        None => std::future::pending().await,
    }
}

/// How often a message was delivered before.
fn deliveries(message: &Message) -> u32 {
    let count = message.properties.headers().as_ref().and_then(|headers| headers.inner().get("x-delivery-count"));
    match count {
        Some(AMQPValue::LongLongInt(count)) => u32::try_from(*count).unwrap_or(0),
        Some(AMQPValue::LongInt(count)) => u32::try_from(*count).unwrap_or(0),
        Some(AMQPValue::LongUInt(count)) => *count,
        Some(AMQPValue::ShortShortUInt(count)) => (*count).into(),
        Some(AMQPValue::ShortShortInt(count)) => u32::try_from(*count).unwrap_or(0),
        _ => 0,
    }
}
