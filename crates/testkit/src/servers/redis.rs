//! Redis with a password, and with what it was told on its disk.

use std::io;
use std::process::{Child, Command};

use super::kind::{Kind, exchange};
use super::place::{Place, program};
use super::{USER, process};

/// Redis.
pub struct Redis;

impl Kind for Redis {
    const NAME: &'static str = "redis";

    fn prepare(place: &Place) -> io::Result<()> {
        std::fs::create_dir(place.path("data"))
    }

    fn launch(place: &Place) -> io::Result<Vec<Child>> {
        let mut command = Command::new(program("redis-server", &[])?);
        command
            .args(["--bind", "127.0.0.1", "--port", &place.port().to_string(), "--requirepass", USER])
            .args(["--save", "", "--appendonly", "yes", "--dir"])
            .arg(place.path("data"));
        Ok(vec![process::spawn(&mut command, place)?])
    }

    fn ready(place: &Place) -> bool {
        let question = format!("*2\r\n$4\r\nAUTH\r\n${}\r\n{USER}\r\n", USER.len());
        exchange(place.port(), question.as_bytes()).is_ok_and(|answer| answer.starts_with(b"+OK"))
    }

    fn url(place: &Place) -> String {
        format!("redis://:{USER}@127.0.0.1:{}", place.port())
    }
}
