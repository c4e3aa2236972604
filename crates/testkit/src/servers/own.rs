//! Servers of one test alone, to be killed, paused, and robbed of their data.
//!
//! They listen at the same port all the time, also after a restart and after a wipe. When a handle is dropped, or the
//! test's process dies in whatever way, its server ends and its data is removed.

use std::fs;
use std::io;
use std::marker::PhantomData;
use std::process::Child;
use std::time::Duration;

use super::kind::{Kind, Signal};
use super::place::Place;
use super::{blocking, postgres, process, rabbitmq};

/// A PostgreSQL of one test.
pub type Postgres = Owned<super::Postgres>;
/// A RabbitMQ of one test.
pub type RabbitMq = Owned<super::RabbitMq>;
/// A NATS of one test, with JetStream.
pub type Nats = Owned<super::Nats>;
/// A Redis of one test; what it was told is on its disk.
pub type Redis = Owned<super::Redis>;
/// A PgBouncer of one test, in front of the shared PostgreSQL.
pub type PgBouncer = Owned<super::PgBouncer>;

/// A server of one test.
pub struct Owned<K: Kind> {
    place: Place,
    children: Vec<Child>,
    watcher: Option<Child>,
    kind: PhantomData<K>,
}

impl<K: Kind> Owned<K> {
    /// Starts one on a free port. A test without its server is worth nothing: it panics with the reason.
    pub async fn start() -> Self {
        blocking(|| Self::try_start().unwrap_or_else(|error| panic!("no {}: {error}", K::NAME))).await
    }

    fn try_start() -> io::Result<Self> {
        let place = Place::new(K::NAME)?;
        let watcher = Some(process::watch_owner(&place)?);
        let mut owned = Self { place, children: Vec::new(), watcher, kind: PhantomData };
        K::prepare(&owned.place)?;
        owned.children = process::start::<K>(&owned.place)?;
        Ok(owned)
    }

    /// Its address with name and password.
    pub fn url(&self) -> String {
        K::url(&self.place)
    }

    /// The port on loopback at which it listens.
    pub fn port(&self) -> u16 {
        self.place.port()
    }

    /// All that it said; empty again after a wipe.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.place.path("log")).unwrap_or_default()).into_owned()
    }

    /// Kills all its processes with `SIGKILL`; its data stays as it is.
    pub fn kill(&mut self) {
        let family = process::freeze(&self.children);
        process::signal(&family, rustix::process::Signal::KILL);
        self.ended(Signal::Kill);
    }

    /// Ends it in order, which may take seconds.
    pub fn stop(&mut self) {
        self.resume();
        self.ended(K::ORDERLY);
    }

    fn ended(&mut self, how: Signal) {
        process::end(&mut self.children, how).expect("own children can be waited for");
        self.children.clear();
    }

    /// Starts it again with its data, at the same port. Nothing happens to one that runs.
    pub async fn start_again(&mut self) {
        if self.children.is_empty() {
            let place = self.place.clone();
            self.children = blocking(move || process::start::<K>(&place)).await.expect("it starts again");
        }
    }

    /// Kills it, deletes its data, and starts it at the same port with the same credentials and virtual hosts.
    pub async fn wipe(&mut self) {
        if !self.children.is_empty() {
            self.kill();
        }
        let place = self.place.clone();
        let wiped = blocking(move || {
            for entry in fs::read_dir(&place.folder)? {
                let path = entry?.path();
                let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
                removed?;
            }
            K::prepare(&place)
        });
        wiped.await.expect("its data can be replaced");
        self.start_again().await;
    }

    /// Holds all its processes: connections stay open, and nothing answers.
    pub fn pause(&mut self) {
        process::freeze(&self.children);
    }

    /// Lets held processes go on.
    pub fn resume(&mut self) {
        let roots = self.children.iter().map(|child| child.id().cast_signed()).collect();
        process::signal(&process::family(&roots), rustix::process::Signal::CONT);
    }
}

impl<K: Kind> Drop for Owned<K> {
    fn drop(&mut self) {
        if let Some(mut watcher) = self.watcher.take() {
            drop(watcher.stdin.take());
            // The watcher ends the server; a process that nobody waits for would look alive to it.
            while let Ok(None) = watcher.try_wait() {
                for child in &mut self.children {
                    let _ = child.try_wait();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Postgres {
    /// Makes an empty database, and returns its address.
    pub async fn fresh_database(&self) -> String {
        let place = self.place.clone();
        blocking(move || postgres::fresh_database(&place)).await
    }
}

impl RabbitMq {
    /// Returns the address of a virtual host that nobody used before. It is there again after a wipe.
    pub async fn fresh_vhost(&self) -> String {
        let place = self.place.clone();
        blocking(move || rabbitmq::fresh_vhost(&place)).await
    }

    /// Runs `rabbitmqctl` with some arguments, and fails the test if that fails.
    pub async fn control(&self, arguments: &[&str]) {
        let place = self.place.clone();
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let done = blocking(move || rabbitmq::control(&place, &arguments)).await;
        done.expect("rabbitmqctl succeeds");
    }
}
