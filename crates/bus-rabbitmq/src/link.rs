//! One connection to the broker that comes back whenever it is lost.
//!
//! The client's own recovery is not used: it replays what was declared on the old connection, while a broker that was
//! wiped, or a queue that somebody deleted, asks for a fresh look at everything.

use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bus::BusError;
use futures::StreamExt as _;
use lapin::{Connection, ConnectionProperties, Event};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::options::RabbitOptions;

/// How long the broker's host may take to take a connection.
const REACHING: Duration = Duration::from_secs(3);
/// How long the broker may take to welcome us before the link says so.
const WELCOME: Duration = Duration::from_secs(5);
/// How long an attempt goes on after that: a frozen broker answers when it thaws, and each attempt costs a thread.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest pause between two attempts. The pauses before it double from `FIRST_PAUSE`.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// A connection that lived as long counts as a success: the next attempt follows at once.
const STABLE: Duration = Duration::from_secs(10);
/// How often to look whether the connection still stands: not every end is announced.
const LOOK: Duration = Duration::from_millis(100);
/// How often a broker that stays away is logged.
const REMINDER: Duration = Duration::from_secs(60);
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// How a link is.
#[derive(Clone)]
pub(crate) enum LinkState {
    /// The first attempt is under way.
    Connecting,
    /// There is a connection.
    Up(Up),
    /// There is none, and why.
    Down(String),
    /// There will be none any more.
    Closed,
}

/// A connection.
#[derive(Clone)]
pub(crate) struct Up {
    pub(crate) connection: Arc<Connection>,
    /// Which one of this link: each next has a greater number.
    pub(crate) number: u64,
    /// Why the broker takes no messages on it for now.
    pub(crate) blocked: Option<String>,
}

/// One connection to the broker that comes back whenever it is lost.
pub(crate) struct Link {
    name: &'static str,
    state: watch::Receiver<LinkState>,
    suspects: mpsc::UnboundedSender<(u64, String)>,
}

impl Link {
    pub(crate) fn start(
        name: &'static str,
        options: &Arc<RabbitOptions>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Arc<Self> {
        let (state, receiver) = watch::channel(LinkState::Connecting);
        let (suspects, suspected) = mpsc::unbounded_channel();
        let keeper = Keeper { name, options: Arc::clone(options), state, suspected, stop: stop.clone(), number: 0 };
        tasks.spawn(keeper.run());
        Arc::new(Self { name, state: receiver, suspects })
    }

    pub(crate) fn watch(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    /// Waits for a connection; `None` once the link is closed.
    pub(crate) async fn up(&self) -> Option<Up> {
        let mut state = self.watch();
        let settled = state.wait_for(|state| matches!(state, LinkState::Up(_) | LinkState::Closed)).await.ok()?;
        match &*settled {
            LinkState::Up(up) => Some(up.clone()),
            _ => None,
        }
    }

    /// The connection, when messages can be sent on it now.
    pub(crate) fn usable(&self) -> Result<Up, BusError> {
        match &*self.state.borrow() {
            LinkState::Up(Up { blocked: Some(reason), .. }) => Err(blocked(reason)),
            LinkState::Up(up) => Ok(up.clone()),
            LinkState::Connecting => Err(BusError::Unavailable(format!("no connection for {} yet", self.name))),
            LinkState::Down(reason) => Err(BusError::Unavailable(reason.clone())),
            LinkState::Closed => Err(BusError::Closed),
        }
    }

    /// Replaces a connection that does not answer.
    pub(crate) fn suspect(&self, number: u64, reason: String) {
        let _ = self.suspects.send((number, reason));
    }
}

/// What an announcement fails with while the broker takes no messages.
pub(crate) fn blocked(reason: &str) -> BusError {
    BusError::Unavailable(format!("publishing is blocked: {reason}"))
}

/// A pause between nothing and the whole: those who lost the same broker do not come back together.
pub(crate) fn full_jitter(longest: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8);
    longest.mul_f64(random as f64 / u64::MAX as f64)
}

struct Keeper {
    name: &'static str,
    options: Arc<RabbitOptions>,
    state: watch::Sender<LinkState>,
    suspected: mpsc::UnboundedReceiver<(u64, String)>,
    stop: CancellationToken,
    number: u64,
}

impl Keeper {
    async fn run(mut self) {
        let stop = self.stop.clone();
        let mut failures = 0_u32;
        let mut logged: Option<Instant> = None;
        while !stop.is_cancelled() {
            let attempt = tokio::select! {
                () = stop.cancelled() => break,
                attempt = self.connect() => attempt,
            };
            let reason = match attempt {
                Ok(connection) => {
                    tracing::info!(link = self.name, "connected to the broker");
                    logged = None;
                    let began = Instant::now();
                    let reason = self.keep(connection).await;
                    failures = if began.elapsed() >= STABLE { 0 } else { failures + 1 };
                    reason
                }
                Err(reason) => {
                    failures += 1;
                    reason
                }
            };
            if stop.is_cancelled() {
                break;
            }
            if logged.is_none_or(|at| at.elapsed() >= REMINDER) {
                tracing::warn!(link = self.name, %reason, "no connection to the broker, trying again");
                logged = Some(Instant::now());
            }
            self.state.send_replace(LinkState::Down(reason));
            let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE);
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(full_jitter(pause)) => {}
            }
        }
        self.state.send_replace(LinkState::Closed);
    }

    async fn connect(&self) -> Result<Connection, String> {
        let address = (self.options.host.as_str(), self.options.port);
        // The client's own attempt cannot be broken off before the system gives up, which takes minutes.
        match tokio::time::timeout(REACHING, TcpStream::connect(address)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(format!("{}:{}: {error}", address.0, address.1)),
            Err(_) => return Err(format!("{}:{} cannot be reached", address.0, address.1)),
        }
        let name = format!("{} ({})", self.options.connection_name, self.name);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let mut connecting = pin!(Connection::connect_uri(self.options.uri(), properties));
        if let Ok(connected) = tokio::time::timeout(WELCOME, &mut connecting).await {
            return connected.map_err(|error| error.to_string());
        }
        let silent = "the broker takes the connection and says nothing".to_owned();
        self.state.send_replace(LinkState::Down(silent.clone()));
        tokio::time::timeout(PATIENCE, connecting).await.map_err(|_| silent)?.map_err(|error| error.to_string())
    }

    /// Keeps a connection until it ends; says why it did.
    async fn keep(&mut self, connection: Connection) -> String {
        self.number += 1;
        let mut events = pin!(connection.events_listener());
        let connection = Arc::new(connection);
        let mut up = Up { connection, number: self.number, blocked: None };
        self.state.send_replace(LinkState::Up(up.clone()));
        let mut said = None;
        let mut reason = None;
        let mut look = tokio::time::interval(LOOK);
        metrics::gauge!("queue_blocked").set(0.0);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => {
                    goodbye(up.connection).await;
                    return "closed".to_owned();
                }
                Some((number, why)) = self.suspected.recv() => {
                    if number == self.number {
                        tokio::spawn(goodbye(up.connection));
                        return why;
                    }
                }
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(why)) => reason = Some(why),
                    Some(Event::Error(error)) => said = Some(error.to_string()),
                    _ => {}
                },
                _ = look.tick() => {}
            }
            let status = up.connection.status();
            if !status.connected() {
                return said.unwrap_or_else(|| "the connection was lost".to_owned());
            }
            let blocked = status.blocked().then(|| reason.clone().unwrap_or_else(|| "an alarm".to_owned()));
            if blocked != up.blocked {
                if let Some(reason) = &blocked {
                    tracing::warn!(link = self.name, %reason, "the broker takes no messages");
                } else {
                    tracing::info!(link = self.name, "the broker takes messages again");
                }
                metrics::gauge!("queue_blocked").set(if blocked.is_some() { 1.0 } else { 0.0 });
                up.blocked = blocked;
                self.state.send_replace(LinkState::Up(up.clone()));
            }
        }
    }
}

async fn goodbye(connection: Arc<Connection>) {
    let _ = tokio::time::timeout(GOODBYE, connection.close(200, "goodbye".into())).await;
}
