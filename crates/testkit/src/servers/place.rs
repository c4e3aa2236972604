//! Where one server lives: a temporary folder and ports nobody else has.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// A folder and ports; the first port is the one for clients.
#[derive(Debug, Clone)]
pub struct Place {
    /// Configuration, data, logs, and the list of process groups.
    pub(super) folder: PathBuf,
    /// Ports on loopback.
    pub(super) ports: [u16; 3],
}

impl Place {
    /// Makes a new folder under the system's folder for temporary files.
    pub(super) fn new(name: &str) -> io::Result<Self> {
        for number in 0.. {
            let folder = std::env::temp_dir().join(format!("testkit-{name}-{}-{number}", std::process::id()));
            match fs::create_dir(&folder) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(Self { folder, ports: free_ports()? }),
            }
        }
        Err(io::Error::other("no name is left for a temporary folder"))
    }

    /// Counts from 1 in a file, over all processes that use the server, and does `work` before anybody has the number.
    pub(super) fn next(&self, counter: &str, work: impl FnOnce(u32) -> io::Result<()>) -> io::Result<u32> {
        let mut counter =
            File::options().create(true).truncate(false).read(true).write(true).open(self.path(counter))?;
        counter.lock()?;
        let mut text = String::new();
        counter.read_to_string(&mut text)?;
        let number = text.trim_end().parse().unwrap_or(0) + 1;
        work(number)?;
        counter.rewind()?;
        writeln!(counter, "{number}")?;
        Ok(number)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn port(&self) -> u16 {
        self.ports[0]
    }

    /// As one line of text.
    pub(super) fn to_line(&self) -> String {
        let [first, second, third] = self.ports;
        format!("{first} {second} {third} {}", self.folder.display())
    }

    pub(super) fn from_line(line: &str) -> Option<Self> {
        let mut parts = line.trim_end().splitn(4, ' ');
        let mut port = || parts.next()?.parse().ok();
        let ports = [port()?, port()?, port()?];
        Some(Self { folder: PathBuf::from(parts.next()?), ports })
    }

    /// What the server said last, for the message of a failed start.
    pub(super) fn last_words(&self) -> String {
        let text = fs::read(self.path("log")).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(2000)..]).into_owned()
    }
}

/// All are bound at the same time, so that they differ.
fn free_ports() -> io::Result<[u16; 3]> {
    let bind = || TcpListener::bind(("127.0.0.1", 0));
    let listeners = [bind()?, bind()?, bind()?];
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    Ok([port(&listeners[0])?, port(&listeners[1])?, port(&listeners[2])?])
}

/// This workspace's folder for what is built.
pub(super) fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target")
}

/// Finds a program: in `folders` first, then in the search path.
pub(super) fn program(name: &str, folders: &[PathBuf]) -> io::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let everywhere = folders.iter().cloned().chain(std::env::split_paths(&path));
    everywhere
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| io::Error::other(format!("{name} is not installed; scripts/setup installs it")))
}
