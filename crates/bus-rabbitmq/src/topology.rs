//! The queues and exchanges, declared again on every new connection and whenever one is missing.
//!
//! A queue that exists with other arguments (of an earlier version, or made by hand) is used as it is: refusing it would
//! stop the platform for the sake of hints. It is logged once a minute and told by `ready`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::ExecutionMode;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ErrorKind, ExchangeKind};
use tokio::time::Instant;

use crate::MODES;
use crate::options::RabbitOptions;

/// What the broker answers when something exists with other properties.
const PRECONDITION_FAILED: u16 = 406;
/// How often the same trouble is logged.
const REMINDER: Duration = Duration::from_secs(60);

/// The queues and exchanges of this platform.
pub(crate) struct Topology {
    options: Arc<RabbitOptions>,
    troubles: Mutex<Troubles>,
    restorations: AtomicU64,
}

#[derive(Default)]
struct Troubles {
    found: BTreeMap<String, String>,
    logged: Option<Instant>,
}

/// Something to declare.
enum Item {
    Exchange { name: String, kind: ExchangeKind },
    Queue { name: String, arguments: FieldTable },
}

impl Topology {
    pub(crate) fn new(options: &Arc<RabbitOptions>) -> Self {
        Self { options: Arc::clone(options), troubles: Mutex::default(), restorations: AtomicU64::new(0) }
    }

    /// Declares everything again because something was found missing.
    ///
    /// Consumers are to begin anew then: the broker may not have told them that their queue was deleted, and takes the
    /// first messages of the new one for repetitions that they know already.
    pub(crate) async fn restore(&self, connection: &Connection) -> Result<(), lapin::Error> {
        self.declare(connection).await?;
        self.restorations.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// How often something was found missing.
    pub(crate) fn restorations(&self) -> u64 {
        self.restorations.load(Ordering::Relaxed)
    }

    /// The exchange that tasks are published to, each with its pool's mode as the key.
    pub(crate) fn exchange(&self) -> ShortString {
        self.options.prefix.as_str().into()
    }

    pub(crate) fn queue(&self, mode: ExecutionMode) -> ShortString {
        self.queue_name(mode).into()
    }

    pub(crate) fn key(mode: ExecutionMode) -> ShortString {
        mode.as_str().into()
    }

    /// What exists otherwise than it was asked for.
    pub(crate) fn trouble(&self) -> Option<String> {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.found.values().next().cloned()
    }

    /// Declares everything. Idempotent, and cheap when it is all there.
    pub(crate) async fn declare(&self, connection: &Connection) -> Result<(), lapin::Error> {
        // A channel of its own: a refusal closes it, which must not concern anybody else.
        let mut channel = connection.create_channel().await?;
        for item in self.items() {
            match item.declare(&channel, false).await {
                Ok(()) => self.well(item.name()),
                Err(error) if is_refused(&error) => {
                    channel = connection.create_channel().await?;
                    item.declare(&channel, true).await?;
                    self.differs(item.name(), &error);
                }
                Err(error) => return Err(error),
            }
        }
        for mode in MODES {
            bind(&channel, self.queue(mode), self.exchange(), Self::key(mode)).await?;
        }
        bind(&channel, self.dead().into(), self.dead().into(), ShortString::default()).await?;
        channel.close(200, "declared".into()).await
    }

    fn items(&self) -> Vec<Item> {
        let mut items = vec![
            Item::Exchange { name: self.options.prefix.clone(), kind: ExchangeKind::Direct },
            Item::Exchange { name: self.dead(), kind: ExchangeKind::Fanout },
            Item::Queue { name: self.dead(), arguments: self.dead_arguments() },
        ];
        items.extend(MODES.map(|mode| Item::Queue { name: self.queue_name(mode), arguments: self.arguments() }));
        items
    }

    fn queue_name(&self, mode: ExecutionMode) -> String {
        format!("{}.{}", self.options.prefix, mode.as_str())
    }

    /// What dead letters pass and where they stay.
    fn dead(&self) -> String {
        format!("{}.dead", self.options.prefix)
    }

    fn arguments(&self) -> FieldTable {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        arguments.insert("x-delivery-limit".into(), number(self.options.delivery_limit.into()));
        arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString(self.dead().into()));
        arguments.insert("x-max-length".into(), number(self.options.queue_limit.into()));
        arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
        arguments
    }

    fn dead_arguments(&self) -> FieldTable {
        let mut arguments = FieldTable::default();
        // Said aloud, as a virtual host may have another kind by default; these are for one pair of eyes, on one node.
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
        arguments.insert("x-max-length".into(), number(self.options.dead_letter_limit.into()));
        arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
        arguments.insert("x-message-ttl".into(), number(self.options.dead_letter_ttl.as_millis() as i64));
        arguments
    }

    fn well(&self, name: &str) {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).found.remove(name);
    }

    fn differs(&self, name: &str, error: &lapin::Error) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.found.insert(name.to_owned(), format!("`{name}` exists with other properties: {error}"));
        if troubles.logged.is_none_or(|at| at.elapsed() >= REMINDER) {
            troubles.logged = Some(Instant::now());
            tracing::error!(name, %error, "exists with other properties and is used as it is; delete it, it holds only hints");
        }
    }
}

impl Item {
    fn name(&self) -> &str {
        match self {
            Self::Exchange { name, .. } | Self::Queue { name, .. } => name,
        }
    }

    /// Declares it, or with `passive` only makes sure that it is there.
    async fn declare(&self, channel: &Channel, passive: bool) -> Result<(), lapin::Error> {
        match self {
            Self::Exchange { name, kind } => {
                let options = ExchangeDeclareOptions { durable: true, passive, ..ExchangeDeclareOptions::default() };
                channel.exchange_declare(name.as_str().into(), kind.clone(), options, FieldTable::default()).await
            }
            Self::Queue { name, arguments } => {
                let options = QueueDeclareOptions { durable: true, passive, ..QueueDeclareOptions::default() };
                channel.queue_declare(name.as_str().into(), options, arguments.clone()).await.map(|_| ())
            }
        }
    }
}

async fn bind(
    channel: &Channel,
    queue: ShortString,
    exchange: ShortString,
    key: ShortString,
) -> Result<(), lapin::Error> {
    channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), FieldTable::default()).await
}

fn number(number: i64) -> AMQPValue {
    AMQPValue::LongLongInt(number)
}

fn is_refused(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == PRECONDITION_FAILED)
}
