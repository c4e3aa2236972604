//! NATS with JetStream on a disk.

use std::fs;
use std::io;
use std::process::{Child, Command};

use super::kind::{Kind, exchange};
use super::place::{Place, program, target};
use super::{USER, process};

/// NATS.
pub struct Nats;

impl Kind for Nats {
    const NAME: &'static str = "nats";

    fn prepare(place: &Place) -> io::Result<()> {
        let text = format!(
            "listen: \"127.0.0.1:{}\"\nauthorization {{user: {USER}, password: {USER}}}\njetstream {{store_dir: \"{}\"}}\n",
            place.port(),
            place.path("data").display()
        );
        fs::write(place.path("nats.conf"), text)
    }

    fn launch(place: &Place) -> io::Result<Vec<Child>> {
        let mut command = Command::new(program("nats-server", &[target().join("tools/bin")])?);
        command.arg("-c").arg(place.path("nats.conf"));
        Ok(vec![process::spawn(&mut command, place)?])
    }

    fn ready(place: &Place) -> bool {
        // It speaks first; what it says tells whether JetStream is there.
        exchange(place.port(), b"").is_ok_and(|answer| String::from_utf8_lossy(&answer).contains("\"jetstream\":true"))
    }

    fn url(place: &Place) -> String {
        format!("nats://{USER}:{USER}@127.0.0.1:{}", place.port())
    }
}
