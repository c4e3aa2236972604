//! What differs between the servers.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Child;
use std::time::Duration;

use super::place::Place;

/// One kind of server. Only this crate has implementations.
pub trait Kind: Send + Sync + 'static {
    /// Its name in paths and messages.
    #[doc(hidden)]
    const NAME: &'static str;

    /// The signal that ends it in order, as `kill` names it.
    #[doc(hidden)]
    const ORDERLY: Signal = Signal::Term;

    /// The signal that ends it at once and leaves no process of its family behind.
    #[doc(hidden)]
    const AT_ONCE: Signal = Signal::Kill;

    /// Writes configuration and empty data into the folder of `place`.
    #[doc(hidden)]
    fn prepare(place: &Place) -> io::Result<()>;

    /// Starts its processes, each as the leader of a group of its own.
    #[doc(hidden)]
    fn launch(place: &Place) -> io::Result<Vec<Child>>;

    /// Whether clients are served now.
    #[doc(hidden)]
    fn ready(place: &Place) -> bool;

    /// Where a client that wants nothing special connects.
    #[doc(hidden)]
    fn url(place: &Place) -> String;
}

/// Signals that end a server.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// `SIGTERM`.
    Term,
    /// `SIGINT`.
    Int,
    /// `SIGQUIT`.
    Quit,
    /// `SIGKILL`.
    Kill,
}

impl Signal {
    /// As the shell's `kill` calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Kill => "KILL",
        }
    }
}

/// Sends some bytes to a port of loopback and returns the beginning of the answer: at least one byte, or an error.
pub(super) fn exchange(port: u16, question: &[u8]) -> io::Result<Vec<u8>> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(question)?;
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer)?;
    answer.truncate(length);
    if answer.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer) }
}
