//! One server for all processes of a test run.

use std::fs::{self, File};
use std::io::{self, Write};
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::place::{Place, target};
use super::{Kind, Nats, Postgres, RabbitMq, Redis, blocking, postgres, process, rabbitmq};

/// A server that other tests use at the same time: never stop it, never count what is in it.
pub struct Shared<K> {
    place: Place,
    kind: PhantomData<K>,
}

/// What keeps the servers running: each lock ends with this process.
static USED: Mutex<Vec<(&str, Place, File)>> = Mutex::new(Vec::new());

impl<K: Kind> Shared<K> {
    /// Starts it, or finds it running. A test without its server is worth nothing: it panics with the reason.
    pub(super) async fn get() -> Self {
        let place = blocking(|| find::<K>().unwrap_or_else(|error| panic!("no {}: {error}", K::NAME))).await;
        Self { place, kind: PhantomData }
    }

    /// The port on loopback at which it listens.
    pub fn port(&self) -> u16 {
        self.place.port()
    }
}

impl Shared<Postgres> {
    /// Makes an empty database, and returns its address.
    pub async fn fresh_database(&self) -> String {
        let place = self.place.clone();
        blocking(move || postgres::fresh_database(&place)).await
    }
}

impl Shared<RabbitMq> {
    /// Returns the address of a virtual host that nobody used before.
    pub async fn fresh_vhost(&self) -> String {
        let place = self.place.clone();
        blocking(move || rabbitmq::fresh_vhost(&place)).await
    }
}

impl Shared<Nats> {
    /// Its address. Tests keep apart by a prefix of their own.
    pub fn url(&self) -> String {
        Nats::url(&self.place)
    }
}

impl Shared<Redis> {
    /// Its address. Tests keep apart by a prefix of their own.
    pub fn url(&self) -> String {
        Redis::url(&self.place)
    }
}

/// Starts the shared server of a kind or finds it running, and keeps it as long as this process lives.
pub(super) fn find<K: Kind>() -> io::Result<Place> {
    let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, place, _)) = used.iter().find(|(name, ..)| *name == K::NAME) {
        return Ok(place.clone());
    }
    let folder = target().join("testkit");
    fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    let file = |what: &str| -> PathBuf { folder.join(format!("{}.{what}", K::NAME)) };

    let mut users = File::options().create(true).append(true).open(file("users"))?;
    users.lock_shared()?;
    // The watcher sees by its length that somebody has been here.
    users.write_all(b".")?;

    let start = File::options().create(true).append(true).open(file("start"))?;
    start.lock()?;
    let left = fs::read_to_string(file("record")).ok().and_then(|line| Place::from_line(&line));
    let place = match left {
        Some(place) if K::ready(&place) => place,
        left => {
            if let Some(left) = left {
                process::clear(&left)?;
            }
            let place = Place::new(K::NAME)?;
            K::prepare(&place)?;
            if let Err(error) = process::start::<K>(&place) {
                let _ = process::clear(&place);
                return Err(error);
            }
            process::watch_users(&place, &file("users"), &file("record"))?;
            fs::write(file("record"), place.to_line())?;
            place
        }
    };
    used.push((K::NAME, place.clone(), users));
    Ok(place)
}
